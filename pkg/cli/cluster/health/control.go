package health

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
	"github.com/underlane/underlane/pkg/cli/newest"
)

func (c *installChecks) existence() check.Category {
	const reapply = "apply the manifests again: underlane upgrade --apply"
	var agents *appsv1.DaemonSet
	return check.Category{Name: "underlane-existence", Probes: []check.Probe{
		fatal("control plane namespace exists", "install with `underlane install --apply`, or say with --underlane-namespace where it is", func(ctx context.Context) error {
			_, err := c.client.CoreV1().Namespaces().Get(ctx, c.system, metav1.GetOptions{})
			return err
		}),
		probe("control plane ClusterRoles exist", reapply, func(ctx context.Context) error {
			_, role := c.client.RbacV1().ClusterRoles().Get(ctx, installation.Controller, metav1.GetOptions{})
			_, binding := c.client.RbacV1().ClusterRoleBindings().Get(ctx, installation.Controller, metav1.GetOptions{})
			return errors.Join(role, binding)
		}),
		probe("control plane ServiceAccounts exist", reapply, func(ctx context.Context) error {
			_, controller := c.client.CoreV1().ServiceAccounts(c.system).Get(ctx, installation.Controller, metav1.GetOptions{})
			_, agent := c.client.CoreV1().ServiceAccounts(c.system).Get(ctx, installation.Agent, metav1.GetOptions{})
			return errors.Join(controller, agent)
		}),
		fatal("controller Deployment exists", reapply, func(ctx context.Context) error {
			_, err := c.client.AppsV1().Deployments(c.system).Get(ctx, installation.Controller, metav1.GetOptions{})
			return err
		}),
		fatal("agent DaemonSet exists", reapply, func(ctx context.Context) (err error) {
			agents, err = c.client.AppsV1().DaemonSets(c.system).Get(ctx, installation.Agent, metav1.GetOptions{})
			return err
		}),
		probe("controller pods are ready", "kubectl -n "+c.system+" describe pods -l app.kubernetes.io/name="+installation.Controller+", and their logs", c.patient(func(ctx context.Context) error {
			r, err := installation.ControllerRollout(ctx, c.client, c.system)
			return c.rolledOut(ctx, r, err)
		})),
		probe("agents are ready", "kubectl -n "+c.system+" logs -l app.kubernetes.io/name="+installation.Agent+" --prefix; `agent check` in such a pod checks its node", c.patient(func(ctx context.Context) error {
			r, err := installation.AgentRollout(ctx, c.client, c.system)
			return c.rolledOut(ctx, r, err)
		})),
		probe("every node has an agent", "pods of these nodes cannot be in the mesh: see agent.nodeSelector and agent.tolerations", func(ctx context.Context) error {
			nodes, err := c.readyNodes(ctx)
			if err != nil {
				return err
			}
			selector := labels.SelectorFromSet(agents.Spec.Template.Spec.NodeSelector)
			var bad []string
			for _, n := range nodes {
				if !selector.Matches(labels.Set(n.Labels)) {
					bad = append(bad, fmt.Sprintf("node %s is not selected by the DaemonSet (%s)", n.Name, selector))
				}
			}
			return check.Warn(check.Lines(bad))
		}),
	}}
}

func (c *installChecks) rolledOut(ctx context.Context, r installation.Rollout, err error) error {
	if err != nil || r.Done() {
		return err
	}
	return errors.New(strings.TrimSpace(r.String() + "\n" + installation.PodProblems(ctx, c.client, c.system)))
}

// api checks what tap needs: the registration of the API at the API server.
func (c *installChecks) api() check.Category {
	return check.Category{Name: "underlane-api", Probes: []check.Probe{
		probe("tap API service is available", "the API server must reach the controller's pods, port 8444; kubectl get apiservice "+tapv1alpha1.APIService+" -o yaml", c.patient(func(ctx context.Context) error {
			r := c.any.Resource(schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"})
			o, err := r.Get(ctx, tapv1alpha1.APIService, metav1.GetOptions{})
			if err != nil {
				return err
			}
			conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
			for _, item := range conditions {
				if m, ok := item.(map[string]any); ok && m["type"] == "Available" {
					if m["status"] == "True" {
						return nil
					}
					return fmt.Errorf("%v: %v", m["reason"], m["message"])
				}
			}
			return errors.New("the API server has not looked at it yet")
		})),
	}}
}

// answerWait limits how long --wait waits for the agents' answers: an agent on a
// lost node never answers.
const answerWait = 30 * time.Second

// ask asks all agents for their status, once.
func (c *checker) ask(ctx context.Context) {
	if !c.asked {
		c.agents, c.silent = c.statuses(ctx)
		c.asked = true
	}
}

func (c *installChecks) agentProbes() check.Category {
	// every returns a check that lists each agent's problem with the name of its
	// node.
	every := func(wrong func(*agentv1.StatusResponse) string) func(context.Context) error {
		return func(ctx context.Context) error {
			c.ask(ctx)
			if len(c.agents) == 0 {
				return errors.New("no agent answered")
			}
			var bad []string
			for _, node := range slices.Sorted(maps.Keys(c.agents)) {
				if w := wrong(c.agents[node]); w != "" {
					bad = append(bad, "node "+node+": "+w)
				}
			}
			return check.Lines(bad)
		}
	}
	warned := func(run func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error { return check.Warn(run(ctx)) }
	}
	const logs = "see the log of the agent on that node"
	return check.Category{Name: "underlane-agents", Probes: []check.Probe{
		probe("agents answer", logs+"; the controller must reach port 4193 of the nodes", patientFor(min(c.wait, answerWait), c.progress, func(ctx context.Context) error {
			c.asked = false
			c.ask(ctx)
			if err := c.silent[""]; err != nil {
				return err
			}
			var bad []string
			for _, node := range slices.Sorted(maps.Keys(c.silent)) {
				bad = append(bad, fmt.Sprintf("node %s: %v", node, c.silent[node]))
			}
			return check.Lines(bad)
		})),
		probe("BPF programs are attached", "`agent check` in the agent's pod names what the kernel lacks", every(func(s *agentv1.StatusResponse) string {
			if !s.GetProgramsAttached() {
				return "its programs are not attached: traffic passes it by"
			}
			return ""
		})),
		probe("agents are connected to the controller", "agents go on with what they know, but new pods and certificates wait: can the node reach the Service "+installation.Controller+", port 8443?", every(func(s *agentv1.StatusResponse) string {
			if k := s.GetController(); !k.GetConnected() {
				return "not connected to " + k.GetAddress() + ": " + k.GetLastError()
			}
			return ""
		})),
		probe("workload certificates are valid", "the controller's log says why it does not sign", every(func(s *agentv1.StatusResponse) string {
			var bad []string
			for _, k := range s.GetCertificates() {
				if k.GetState() != "valid" || c.now().After(k.GetNotAfter().AsTime()) {
					bad = append(bad, strings.TrimRight(fmt.Sprintf("%s is %s: %s", k.GetIdentity(), k.GetState(), k.GetLastError()), ": "))
				}
			}
			return strings.Join(bad, ", ")
		})),
		probe("workload certificates are renewed in time", "they are renewed at 70 % of their life: is the controller reachable?", warned(every(func(s *agentv1.StatusResponse) string {
			var bad []string
			for _, k := range s.GetCertificates() {
				from, to := k.GetNotBefore().AsTime(), k.GetNotAfter().AsTime()
				if left := to.Sub(c.now()); left > 0 && float64(left) < 0.2*float64(to.Sub(from)) {
					bad = append(bad, fmt.Sprintf("%s expires in %s", k.GetIdentity(), left.Round(time.Minute)))
				}
			}
			return strings.Join(bad, ", ")
		}))),
		probe("container runtimes announce pods to the agents", "without NRI pods are captured a moment after they start: see agent.nriSocketDir", warned(every(func(s *agentv1.StatusResponse) string {
			if r := s.GetRuntime(); r != nil && !r.GetConnected() {
				return "not connected: " + r.GetLastError()
			}
			return ""
		}))),
	}}
}

func (c *installChecks) versionProbes() check.Category {
	var v installation.Versions
	return check.Category{Name: "underlane-version", Probes: []check.Probe{
		probe("can determine the versions that run", "may you list pods of namespace "+c.system+"?", func(ctx context.Context) (err error) {
			v, err = installation.ImageVersions(ctx, c.client, c.system)
			return err
		}),
		probe("cli and controller versions match", "use the command line of that version, or `underlane upgrade --apply`", func(ctx context.Context) error {
			if len(v.Controllers) == 1 && v.Controllers[version.Version] > 0 {
				return nil
			}
			return check.Warn(fmt.Errorf("command line %s, controller %s", version.Version, v.Controller()))
		}),
		probe("controller and agent versions match", "is an upgrade on its way? kubectl -n "+c.system+" rollout status ds/"+installation.Agent, func(ctx context.Context) error {
			if v.Controller() == v.Agent() {
				return nil
			}
			return check.Warn(fmt.Errorf("controller %s, agents %s", v.Controller(), v.Agent()))
		}),
	}}
}

// releases checks whether this program is the newest of its channel. What cannot be found
// out, because there is no network, is nothing that the user has to hear of.
func releases() []check.Category {
	if !newest.Allowed() {
		return nil
	}
	return []check.Category{{Name: "underlane-releases", Probes: []check.Probe{
		probe("cli is the newest of its channel", newest.Hint(version.Channel), func(ctx context.Context) error {
			channel, err := newest.Of(ctx, version.Channel)
			if errors.Is(err, newest.ErrUnreachable) {
				return nil
			}
			if err == nil {
				err = newest.Outdated(channel)
			}
			return check.Warn(err)
		}),
	}}}
}

func (c *installChecks) highAvailability() check.Category {
	return check.Category{Name: "underlane-ha-checks", Probes: []check.Probe{
		probe("multiple replicas of control plane pods", "agents go on without a controller, but pods that start then wait for their certificates: underlane upgrade --ha --apply", func(ctx context.Context) error {
			nodes, err := c.readyNodes(ctx)
			if err != nil {
				return err
			}
			r, err := installation.ControllerRollout(ctx, c.client, c.system)
			if err != nil {
				return err
			}
			if r.Desired < 2 && len(nodes) > 1 {
				return check.Warn(fmt.Errorf("the controller has %d replica", r.Desired))
			}
			return nil
		}),
	}}
}
