package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/mesh"
)

// CheckCommand is `agent check`. It checks the requirements on this node, and
// prints a hint where one is not met.
func CheckCommand(f *Flags, k Kernel) *cobra.Command {
	var output check.Output
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check this node: kernel, pins, agent, controller, certificates, pods",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return output.Run(cmd.Context(), cmd.OutOrStdout(), f.checks(k))
		},
	}
	output.AddFlag(cmd.Flags())
	return cmd
}

func (f *Flags) checks(k Kernel) []check.Category {
	var all []check.Category
	add := func(name string, probes []check.Probe) {
		if len(probes) > 0 {
			all = append(all, check.Category{Name: name, Probes: probes})
		}
	}
	if k.Probes != nil {
		add("kernel-features", k.Probes(f))
	}
	if k.Pins != nil {
		add("pinned-objects", k.Pins(f))
	}
	// The first probe asks the agent and is fatal. The other probes read its answer.
	st := &agentv1.StatusResponse{}
	add("node-agent", append([]check.Probe{{
		Name: "agent answers on " + f.Socket, Fatal: true,
		Hint: "start the agent, or see why it ended in its log",
		Run: func(ctx context.Context) (err error) {
			st, err = f.status(ctx)
			return err
		},
	}}, agentProbes(&st)...))
	add("identity", identityProbes(&st, time.Now))
	add("data-plane", podProbes(&st, time.Now))
	return all
}

// statusTimeout bounds the wait for an agent that does not answer. Tests shorten
// it.
var statusTimeout = 5 * time.Second

func (f *Flags) status(ctx context.Context) (*agentv1.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	client, done, err := f.dial()
	if err != nil {
		return nil, err
	}
	defer done()
	st, err := client.Status(ctx, &agentv1.StatusRequest{})
	if err != nil {
		return nil, f.explain(err)
	}
	return st, nil
}

func agentProbes(st **agentv1.StatusResponse) []check.Probe {
	return []check.Probe{
		{
			Name: "BPF programs are attached", Hint: "see the agent's log; an older kernel or a missing privilege is the usual cause",
			Run: func(context.Context) error {
				if !(*st).GetProgramsAttached() {
					return errors.New("the programs of this agent are not attached: traffic passes it by")
				}
				return nil
			},
		},
		{
			Name: "agent has state to serve from", Hint: "the agent needs its controller once: see --controller and its log",
			Run: func(context.Context) error {
				if !(*st).GetSynced() && (*st).GetSnapshotVersion() == 0 {
					return errors.New("no snapshot was received yet")
				}
				return nil
			},
		},
		{
			Name: "controller is connected", Hint: "the agent goes on with its last state; new pods and certificates wait: is the controller running and reachable from this node?",
			Run: func(context.Context) error {
				c := (*st).GetController()
				if c.GetConnected() {
					return nil
				}
				err := errors.New(controllerLine(c, time.Now()))
				if (*st).GetSynced() {
					return check.Warn(err)
				}
				return err
			},
		},
		{
			Name: "no kernel events are lost", Hint: "tap and metrics miss some connections: the node is overloaded or the ring buffer too small",
			Run: func(context.Context) error {
				if n := (*st).GetRingbufLost(); n > 0 {
					return check.Warn(fmt.Errorf("%d events were lost since the agent started", n))
				}
				return nil
			},
		},
		{
			Name: "pods that are to be observed are", Hint: "their requests are not in tap and metrics, and nothing else is amiss: does the kernel have programs of type cgroup_skb, and are the pods running?",
			Run: func(context.Context) error {
				if w := (*st).GetWatched(); w.GetPods() < w.GetWanted() {
					return check.Warn(fmt.Errorf("%d of %d are observed: %s", w.GetPods(), w.GetWanted(), cmp.Or(w.GetError(), "they were just found")))
				}
				return nil
			},
		},
		{
			Name: "packets of kernel paths go past the host", Hint: "they go by way of the host, as without the mesh: nothing is wrong, and it costs some microseconds; --kernel-path-redirect=false does without",
			Run: func(context.Context) error {
				r := (*st).GetRedirecting()
				if why := r.GetError(); why != "" {
					return check.Warn(errors.New(why))
				}
				if n := len(r.GetRefused()); n > 0 {
					return check.Warn(fmt.Errorf("%d pods are left out, such as %s", n, r.GetRefused()[0]))
				}
				return nil
			},
		},
		{
			Name: "names from DNS are seen", Hint: "another program may have attached to the cgroup in a way that allows no second one: see `bpftool cgroup show`; --dns-names=false does without",
			Run: func(context.Context) error {
				if why := (*st).GetDns().GetError(); why != "" {
					return check.Warn(errors.New(why))
				}
				return nil
			},
		},
	}
}

// renewalLate is the fraction of a certificate's life after which a check warns
// that the certificate was not renewed. Renewal starts at 0.7.
const renewalLate = 0.8

func identityProbes(st **agentv1.StatusResponse, now func() time.Time) []check.Probe {
	return []check.Probe{
		{
			Name: "certificates are valid", Hint: "the controller signs them: see its log, and that the clocks of both nodes agree",
			Run: func(context.Context) error {
				return each((*st).GetCertificates(), func(c *agentv1.Certificate) string {
					switch {
					case c.GetState() != "valid":
						return strings.TrimRight(fmt.Sprintf("%s is %s: %s", c.GetIdentity(), c.GetState(), c.GetLastError()), ": ")
					case now().After(c.GetNotAfter().AsTime()):
						return fmt.Sprintf("%s has expired", c.GetIdentity())
					}
					return ""
				})
			},
		},
		{
			Name: "certificates are renewed in time", Hint: "traffic goes on until they expire: is the controller reachable?",
			Run: func(context.Context) error {
				return check.Warn(each((*st).GetCertificates(), func(c *agentv1.Certificate) string {
					start, end := c.GetNotBefore().AsTime(), c.GetNotAfter().AsTime()
					late := start.Add(time.Duration(renewalLate * float64(end.Sub(start))))
					if c.GetState() != "valid" || now().Before(late) || !now().Before(end) {
						return ""
					}
					return strings.TrimRight(fmt.Sprintf("%s expires in %s: %s", c.GetIdentity(), age(end.Sub(now())), c.GetLastError()), ": ")
				}))
			},
		},
	}
}

// pendingLimit is the time after which a pending enrolment counts as a failure.
const pendingLimit = 30 * time.Second

func podProbes(st **agentv1.StatusResponse, now func() time.Time) []check.Probe {
	return []check.Probe{
		{
			Name: "every labelled pod is enrolled", Hint: "see `agent status` and the agent's log for the pod's name",
			Run: func(context.Context) error {
				return each((*st).GetPods(), func(p *agentv1.Pod) string {
					slow := p.GetState() == mesh.PodPending && now().Sub(p.GetSince().AsTime()) > pendingLimit
					if p.GetState() == mesh.PodFailed || slow {
						return podLine(p)
					}
					return ""
				})
			},
		},
		{
			Name: "pods are enrolled before they start", Hint: "turn NRI on in the container runtime (containerd 2 and CRI-O 1.26 have it on); until then a pod's first connections pass by the mesh",
			Run: func(context.Context) error {
				r := (*st).GetRuntime()
				if r == nil || r.GetConnected() {
					return nil
				}
				return check.Warn(errors.New(r.GetLastError()))
			},
		},
		{
			Name: "no labelled pod is left out", Hint: "remove the label underlane.io/mesh from the pod, or what keeps it out",
			Run: func(context.Context) error {
				return check.Warn(each((*st).GetPods(), func(p *agentv1.Pod) string {
					if p.GetState() == mesh.PodLeftOut {
						return podLine(p)
					}
					return ""
				}))
			},
		},
	}
}

func podLine(p *agentv1.Pod) string {
	return fmt.Sprintf("%s/%s is %s: %s", p.GetNamespace(), p.GetName(), p.GetState(), p.GetReason())
}

// each joins the problems of the items into one error, a line for each.
func each[T any](items []T, wrong func(T) string) error {
	var bad []string
	for _, item := range items {
		if line := wrong(item); line != "" {
			bad = append(bad, line)
		}
	}
	return check.Lines(bad)
}
