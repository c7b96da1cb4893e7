package manifest

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Environment returns base with the variables of a container of the pod. Later
// entries can refer to earlier ones with $(NAME). fieldRefs are filled in from
// pod, whose addresses must be set.
func Environment(pod *corev1.Pod, c *corev1.Container, base []string) ([]string, error) {
	env := append([]string(nil), base...)
	known := map[string]string{}
	for _, e := range c.Env {
		value := Expand(e.Value, known)
		if e.ValueFrom != nil {
			v, err := field(pod, e.ValueFrom.FieldRef.FieldPath)
			if err != nil {
				return nil, fmt.Errorf("env %s: %w", e.Name, err)
			}
			value = v
		}
		known[e.Name] = value
		env = append(env, e.Name+"="+value)
	}
	return env, nil
}

// Command returns the container's command and arguments, with $(NAME) filled in
// from env ("NAME=value").
func Command(c *corev1.Container, env []string) []string {
	known := map[string]string{}
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			known[k] = v
		}
	}
	var argv []string
	for _, s := range append(append([]string(nil), c.Command...), c.Args...) {
		argv = append(argv, Expand(s, known))
	}
	return argv
}

// Expand replaces $(NAME) as Kubernetes does. An unknown name stays as it is, and
// $$ is a literal $.
func Expand(s string, known map[string]string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			return b.String() + s
		}
		b.WriteString(s[:i])
		s = s[i:]
		end := strings.IndexByte(s, ')')
		switch {
		case s[1] == '$':
			b.WriteByte('$')
			s = s[2:]
		case s[1] == '(' && end > 0:
			name := s[2:end]
			if v, ok := known[name]; ok {
				b.WriteString(v)
			} else {
				b.WriteString(s[:end+1])
			}
			s = s[end+1:]
		default:
			b.WriteByte('$')
			s = s[1:]
		}
	}
}

// field returns a field of the downward API, which an environment variable may
// refer to.
func field(pod *corev1.Pod, path string) (string, error) {
	if name, key, ok := strings.Cut(strings.TrimSuffix(path, "']"), "['"); ok {
		switch name {
		case "metadata.labels":
			return pod.Labels[key], nil
		case "metadata.annotations":
			return pod.Annotations[key], nil
		}
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return pod.Status.HostIP, nil
	case "status.podIP":
		return pod.Status.PodIP, nil
	case "status.podIPs":
		var ips []string
		for _, ip := range pod.Status.PodIPs {
			ips = append(ips, ip.IP)
		}
		return strings.Join(ips, ","), nil
	}
	return "", fmt.Errorf("fieldPath %q is not one that a pod can refer to", path)
}
