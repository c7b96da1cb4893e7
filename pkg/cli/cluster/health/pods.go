package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// meshed has the namespaces to check and the labelled pods in them.
type meshed struct {
	namespaces []corev1.Namespace // all namespaces to check
	pods       []corev1.Pod       // labelled themselves or by their namespace
}

func (c *checker) meshedPods(ctx context.Context) (meshed, error) {
	var m meshed
	namespaces, err := c.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return m, fmt.Errorf("list namespaces: %w", err)
	}
	enabled := map[string]bool{}
	for _, n := range namespaces.Items {
		if c.namespace == "" || c.namespace == n.Name {
			m.namespaces = append(m.namespaces, n)
			enabled[n.Name] = n.Labels[mesh.LabelMesh] == mesh.LabelEnabled
		}
	}
	pods, err := c.client.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return m, fmt.Errorf("list pods: %w", err)
	}
	for _, p := range pods.Items {
		label := p.Labels[mesh.LabelMesh]
		if label == mesh.LabelEnabled || enabled[p.Namespace] && label != mesh.LabelDisabled && label != mesh.LabelObserve {
			m.pods = append(m.pods, p)
		}
	}
	return m, nil
}

const (
	enrolmentTime = 10 * time.Second // time until a pod that just started must be enrolled
	enrolmentWait = 30 * time.Second // the longest time that --wait waits for it: a failure is seldom temporary
)

func (c *podChecks) pods() check.Category {
	var m meshed
	return check.Category{Name: "underlane-data-plane", Probes: []check.Probe{
		fatal("data plane namespace exists", "give an existing one to --namespace", func(ctx context.Context) (err error) {
			if m, err = c.meshedPods(ctx); err == nil && len(m.namespaces) == 0 {
				err = fmt.Errorf("there is no namespace %q", c.namespace)
			}
			return err
		}),
		probe("some pod is labelled", "kubectl label namespace NAME "+mesh.LabelMesh+"="+mesh.LabelEnabled, func(context.Context) error {
			if len(m.pods) == 0 {
				return check.Warn(errors.New("no pod is labelled " + mesh.LabelMesh + "=" + mesh.LabelEnabled + ", nor its namespace"))
			}
			return nil
		}),
		probe("every labelled pod is captured", "see the log of the agent on the pod's node, and `agent status` in it", patientFor(min(c.wait, enrolmentWait), c.progress, func(ctx context.Context) (err error) {
			if m, err = c.meshedPods(ctx); err != nil {
				return err
			}
			// The pods were read again, so the agents must be asked again.
			c.asked = false
			c.ask(ctx)
			return check.Lines(c.notCaptured(m.pods))
		})),
		probe("no labelled pod is left out", "take the label off, or set "+mesh.LabelMesh+"="+mesh.LabelDisabled+" on these pods: they cannot be in the mesh", func(context.Context) error {
			var bad []string
			for i := range m.pods {
				if s := c.statusOf(&m.pods[i]); s.GetState() == mesh.PodLeftOut {
					bad = append(bad, fmt.Sprintf("pod %s/%s: %s", m.pods[i].Namespace, m.pods[i].Name, s.GetReason()))
				}
			}
			return check.Warn(check.Lines(bad))
		}),
		probe("no connection predates enrolment", "they go on outside the mesh until they end; restart the pods to end them now", func(context.Context) error {
			var bad []string
			for i := range m.pods {
				if n := c.statusOf(&m.pods[i]).GetPreMeshConnections(); n > 0 {
					bad = append(bad, fmt.Sprintf("pod %s/%s: %d connections", m.pods[i].Namespace, m.pods[i].Name, n))
				}
			}
			return check.Warn(check.Lines(bad))
		}),
	}}
}

// notCaptured returns a line for each labelled pod that runs without the mesh.
func (c *podChecks) notCaptured(pods []corev1.Pod) []string {
	var bad []string
	for i := range pods {
		p := &pods[i]
		if p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil || p.Spec.HostNetwork {
			continue
		}
		name := fmt.Sprintf("pod %s/%s on node %s", p.Namespace, p.Name, p.Spec.NodeName)
		s := c.statusOf(p)
		switch {
		case s.GetState() == mesh.PodEnrolled, s.GetState() == mesh.PodLeftOut:
		case s != nil:
			bad = append(bad, strings.TrimRight(fmt.Sprintf("%s is %s: %s", name, s.GetState(), s.GetReason()), ": "))
		case c.agents[p.Spec.NodeName] == nil:
			bad = append(bad, name+": the node's agent does not answer")
		case p.Status.StartTime == nil || c.now().Sub(p.Status.StartTime.Time) > enrolmentTime:
			bad = append(bad, name+": the node's agent does not know it")
		}
	}
	return bad
}

// statusOf returns the status that the agent of a pod's node reports for the pod,
// nil if none.
func (c *checker) statusOf(p *corev1.Pod) *agentv1.Pod {
	for _, s := range c.agents[p.Spec.NodeName].GetPods() {
		if s.GetNamespace() == p.Namespace && s.GetName() == p.Name {
			return s
		}
	}
	return nil
}

// settings returns the checks of the annotations of meshed pods, their namespaces
// and Services.
func (c *podChecks) settings() check.Category {
	return check.Category{Name: "underlane-settings", Probes: []check.Probe{
		probe("annotations of pods and namespaces make sense", "values that make no sense count as not given; see docs/reference/settings.md", func(ctx context.Context) error {
			m, err := c.meshedPods(ctx)
			if err != nil {
				return err
			}
			var bad []string
			for i := range m.namespaces {
				bad = append(bad, badSettings("namespace "+m.namespaces[i].Name, &m.namespaces[i])...)
			}
			for i := range m.pods {
				bad = append(bad, badSettings("pod "+m.pods[i].Namespace+"/"+m.pods[i].Name, &m.pods[i])...)
			}
			return check.Warn(check.Lines(bad))
		}),
		probe("opaque ports are properly annotated", "put "+mesh.AnnotationOpaquePorts+" on the pods (in the template) or on their namespace, the same for all pods of a Service", c.opaquePorts),
	}}
}

func badSettings(what string, o metav1.Object) []string {
	a := o.GetAnnotations()
	var bad []string
	for _, name := range []string{mesh.AnnotationOpaquePorts, mesh.AnnotationSkipInboundPorts, mesh.AnnotationSkipOutboundPorts} {
		if v, ok := a[name]; ok {
			if err := validPorts(v); err != nil {
				bad = append(bad, fmt.Sprintf("%s: %s: %v", what, name, err))
			}
		}
	}
	for name, allowed := range map[string][]string{
		mesh.AnnotationFailMode: {"open", "closed"},
		mesh.AnnotationSameNode: {"shortcut", "wire"},

		mesh.AnnotationPlaintextFallback: {"never", "allowed"},
		mesh.AnnotationIngress:           {mesh.LabelEnabled, mesh.LabelDisabled},
	} {
		if v, ok := a[name]; ok && !slices.Contains(allowed, v) {
			bad = append(bad, fmt.Sprintf("%s: %s: %q is none of %s", what, name, v, strings.Join(allowed, ", ")))
		}
	}
	if v, ok := a[mesh.AnnotationPolicy]; ok && v != mesh.PolicyAllow.String() && v != mesh.PolicyStrict.String() {
		if _, err := authz.ParseMode(v); err != nil {
			bad = append(bad, fmt.Sprintf("%s: %s: %q is neither allow nor strict nor a mode, and counts as deny", what, mesh.AnnotationPolicy, v))
		}
	}
	if v := o.GetLabels()[mesh.LabelMesh]; v != "" && v != mesh.LabelEnabled && v != mesh.LabelDisabled && v != mesh.LabelObserve {
		bad = append(bad, fmt.Sprintf("%s: label %s: %q is neither %s nor %s nor %s", what, mesh.LabelMesh, v, mesh.LabelEnabled, mesh.LabelDisabled, mesh.LabelObserve))
	}
	slices.Sort(bad)
	return bad
}

// validPorts validates a list such as 25,3306,9000-9100.
func validPorts(list string) error {
	for part := range strings.SplitSeq(list, ",") {
		from, to, ranged := strings.Cut(strings.TrimSpace(part), "-")
		if !ranged {
			to = from
		}
		first, err1 := strconv.ParseUint(strings.TrimSpace(from), 10, 16)
		last, err2 := strconv.ParseUint(strings.TrimSpace(to), 10, 16)
		if err1 != nil || err2 != nil || first == 0 || last < first {
			return fmt.Errorf("%q is no port and no range of ports", part)
		}
	}
	return nil
}

// opaquePorts finds annotations that have no effect, and pods of one Service whose
// annotations differ: a client uses the annotation of the pod that it reaches.
func (c *podChecks) opaquePorts(ctx context.Context) error {
	m, err := c.meshedPods(ctx)
	if err != nil {
		return err
	}
	services, err := c.client.CoreV1().Services(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list services: %w", err)
	}
	var bad []string
	for i := range services.Items {
		s := &services.Items[i]
		if _, ok := s.Annotations[mesh.AnnotationOpaquePorts]; ok {
			bad = append(bad, fmt.Sprintf("service %s/%s: the annotation does nothing on a Service", s.Namespace, s.Name))
		}
		values := map[string]string{}
		for j := range m.pods {
			if p := &m.pods[j]; p.Namespace == s.Namespace && selects(s, p) {
				values[p.Annotations[mesh.AnnotationOpaquePorts]] = p.Name
			}
		}
		if len(values) > 1 {
			var parts []string
			for v, pod := range values {
				parts = append(parts, fmt.Sprintf("%q (pod %s)", v, pod))
			}
			slices.Sort(parts)
			bad = append(bad, fmt.Sprintf("service %s/%s: its pods differ: %s", s.Namespace, s.Name, strings.Join(parts, ", ")))
		}
	}
	return check.Warn(check.Lines(bad))
}

func selects(s *corev1.Service, p *corev1.Pod) bool {
	for k, v := range s.Spec.Selector {
		if p.Labels[k] != v {
			return false
		}
	}
	return len(s.Spec.Selector) > 0
}
