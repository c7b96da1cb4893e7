package installation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Versions has the image tags of the running pods, with the number of pods for
// each.
type Versions struct {
	Controllers, Agents map[string]int
}

// ImageVersions reads the versions from the images of the running pods.
func ImageVersions(ctx context.Context, client kubernetes.Interface, namespace string) (Versions, error) {
	v := Versions{map[string]int{}, map[string]int{}}
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: Selector})
	if err != nil {
		return v, fmt.Errorf("look for Underlane's pods: %w", err)
	}
	for i := range pods.Items {
		switch p := &pods.Items[i]; p.Labels[NameLabel] {
		case Controller:
			v.Controllers[imageTag(p)]++
		case Agent:
			v.Agents[imageTag(p)]++
		}
	}
	return v, nil
}

// Controller returns the controllers' version. It returns "unavailable" when there
// is no controller. If versions differ it returns each with its number of pods.
func (v Versions) Controller() string { return countVersions(v.Controllers) }

// Agent returns the agents' version, in the same form.
func (v Versions) Agent() string { return countVersions(v.Agents) }

// countVersions returns the only version, or each version with its number of pods.
func countVersions(v map[string]int) string {
	switch len(v) {
	case 0:
		return "unavailable"
	case 1:
		for name := range v {
			return name
		}
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		parts = append(parts, fmt.Sprintf("%s (%d pods)", name, v[name]))
	}
	return strings.Join(parts, ", ")
}

// imageTag returns the tag of the pod's image: registry:5000/name:TAG@digest.
func imageTag(p *corev1.Pod) string {
	if len(p.Spec.Containers) == 0 {
		return "unknown"
	}
	image, _, _ := strings.Cut(p.Spec.Containers[0].Image, "@")
	i := strings.LastIndexByte(image, ':')
	if i <= strings.LastIndexByte(image, '/') {
		return "latest"
	}
	return image[i+1:]
}
