package e2e

import (
	"fmt"
	"strings"
)

// image is the image with the servers and clients of the tests.
const image = "registry.underlane.test/labtest:dev"

// deployment returns a Deployment with the label app=NAME. Its only container runs
// labtest with args. Options add YAML to the pod's template.
func deployment(name string, args []string, options ...option) string {
	p := podTemplate{name: name, args: args, replicas: 1}
	for _, o := range options {
		o(&p)
	}
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata:
      labels: {app: %[1]s%[3]s}
      annotations: {%[4]s}
    spec:
%[5]s
---
`, name, p.replicas, p.labels, strings.Join(p.annotations, ", "), p.spec("      "))
}

// pod returns a bare Pod with the label app=NAME.
func pod(name string, args []string, options ...option) string {
	p := podTemplate{name: name, args: args}
	for _, o := range options {
		o(&p)
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: %[1]s
  labels: {app: %[1]s%[2]s}
  annotations: {%[3]s}
spec:
%[4]s
---
`, name, p.labels, strings.Join(p.annotations, ", "), p.spec("  "))
}

// service returns a Service for app=NAME with ports such as "80:8080" and extra lines
// in its spec.
func service(name string, ports []string, extra ...string) string {
	var list []string
	for _, p := range ports {
		port, target, _ := strings.Cut(p, ":")
		list = append(list, fmt.Sprintf("{name: p%[1]s, port: %[1]s, targetPort: %[2]s}", port, target))
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  selector: {app: %[1]s}
  ports: [%[2]s]
%[3]s
---
`, name, strings.Join(list, ", "), indent("  ", strings.Join(extra, "\n")))
}

type podTemplate struct {
	name, labels   string
	args           []string
	annotations    []string
	replicas       int
	podLines       []string // further lines of the pod's spec
	containerLines []string // further lines of the container
}

type option func(*podTemplate)

func meshed(p *podTemplate) { p.labels += `, underlane.io/mesh: enabled` }

func replicas(n int) option { return func(p *podTemplate) { p.replicas = n } }

func annotation(name, value string) option {
	return func(p *podTemplate) { p.annotations = append(p.annotations, fmt.Sprintf("%s: %q", name, value)) }
}

func node(name string) option { return podSpec("nodeName: " + name) }

// podSpec and container add YAML lines to the pod's spec and to its container.
func podSpec(lines string) option {
	return func(p *podTemplate) { p.podLines = append(p.podLines, lines) }
}

func container(lines string) option {
	return func(p *podTemplate) { p.containerLines = append(p.containerLines, lines) }
}

func (p *podTemplate) spec(margin string) string {
	var args []string
	for _, a := range p.args {
		args = append(args, fmt.Sprintf("%q", a))
	}
	lines := append([]string{"terminationGracePeriodSeconds: 2"}, p.podLines...)
	lines = append(lines,
		"containers:",
		"- name: main",
		"  image: "+image,
		"  imagePullPolicy: IfNotPresent",
		"  command: [/labtest]",
		"  args: ["+strings.Join(args, ", ")+"]",
	)
	for _, c := range p.containerLines {
		lines = append(lines, indent("  ", c))
	}
	return indent(margin, strings.Join(lines, "\n"))
}

func indent(margin, text string) string {
	if strings.TrimSpace(text) == "" {
		return ""
	}
	return margin + strings.ReplaceAll(strings.Trim(text, "\n"), "\n", "\n"+margin)
}

var (
	clientArgs = []string{"wait"}
	httpArgs   = []string{"http"}
	serveAll   = []string{"all"}
)
