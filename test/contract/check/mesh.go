// Package check finds in a history what the mesh promises never to do. Each invariant is
// a function of the history. What the documentation says is lost while something fails
// is in lost.go, and nothing else may be lost.
package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/underlane/underlane/test/contract/history"
	"github.com/underlane/underlane/test/contract/schedule"
)

// Client is a pod that makes attempts.
type Client struct {
	Node       string
	Meshed     bool
	FailClosed bool // underlane.io/fail-mode: closed
}

// Target is where attempts go: a pod, or a service.
type Target struct {
	Pods   []string // the pod itself, or those of the service
	Nodes  []string // of the pods
	Strict bool     // underlane.io/policy: strict
}

// Mesh is what the invariants need to know of the pods. All targets are labelled and
// fail open.
type Mesh struct {
	Clients map[string]Client
	Targets map[string]Target
	// Heartbeat is the agents' --heartbeat-timeout.
	Heartbeat time.Duration
}

// Violation is something that the mesh promises never to do.
type Violation struct {
	Invariant string
	Attempt   history.Attempt // the zero value if the client did not tell of it
	What      string
	During    []history.Fault // that overlap the attempt, or were healed just before it
}

func (v Violation) String() string {
	var during []string
	for _, f := range v.During {
		during = append(during, fmt.Sprintf("%s (%s before, healed %s after the attempt began)", f.Fault, round(v.Attempt.Start.Sub(f.Began)), round(f.Healed.Sub(v.Attempt.Start))))
	}
	a := v.Attempt
	return fmt.Sprintf("%s: %s: %s, %s to %s at %s, took %s, %s %s by %q %s\n  during: %s", v.Invariant, v.What,
		a.ID, a.How, a.To, a.Addr, round(a.End.Sub(a.Start)), a.Outcome, a.Reason, a.By, a.Error, cmp.Or(strings.Join(during, "; "), "nothing"))
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// All returns the violations of all invariants, by invariant and time.
func All(m Mesh, h *history.History) []Violation {
	var out []Violation
	for _, invariant := range []func(Mesh, *history.History) []Violation{
		PastStrict, InTheClear, WrongPod, MoreThanOnce, FailedOpen, Lost, Hung,
	} {
		out = append(out, invariant(m, h)...)
	}
	return out
}

// grace is for how long after its healing a fault may still show: an agent that was away
// is asked for every 250 ms, and the machine may be busy.
const grace = 3 * time.Second

// during returns the faults that an attempt may show.
func during(h *history.History, a history.Attempt) []history.Fault {
	var out []history.Fault
	for _, f := range h.Faults {
		if a.End.After(f.Began) && a.Start.Before(f.Healed.Add(grace)) {
			out = append(out, f)
		}
	}
	return out
}

// sinceDial is an attempt that begins when its connection was dialled. Before the first attempt
// on it that may be long: http.Transport dials in the background, and keeps the connection if the
// attempt that wanted it is over.
func sinceDial(a history.Attempt) history.Attempt {
	if !a.Dialled.IsZero() && a.Dialled.Before(a.Start) {
		a.Start = a.Dialled
	}
	return a
}

// attempts are those of a history by ID.
func attempts(h *history.History) map[string]history.Attempt {
	out := make(map[string]history.Attempt, len(h.Attempts))
	for _, a := range h.Attempts {
		out[a.ID] = a
	}
	return out
}

// violate makes a violation of an attempt. The attempt is not known where its client
// was ended before it.
func violate(h *history.History, invariant string, a history.Attempt, format string, args ...any) Violation {
	return Violation{Invariant: invariant, Attempt: a, What: fmt.Sprintf(format, args...), During: during(h, a)}
}

// agentAway are the faults in which a node has no agent that answers.
var agentAway = []schedule.Kind{schedule.AgentKilled, schedule.AgentStopped, schedule.AgentTerminated}

// noticed is when the kernel knows that an agent is away.
func noticed(m Mesh, f history.Fault) time.Time {
	if f.Kind == schedule.AgentStopped {
		return f.Struck.Add(m.Heartbeat)
	}
	return f.Struck
}

// without reports whether an attempt began and ended while the kernel knew that the agent
// of a node was away.
func without(m Mesh, h *history.History, a history.Attempt, node string) bool {
	return slices.ContainsFunc(h.Faults, func(f history.Fault) bool {
		return slices.Contains(agentAway, f.Kind) && f.Node == node && a.Start.After(noticed(m, f)) && a.End.Before(f.Healing)
	})
}

// fresh reports whether an attempt has a connection of its own.
func fresh(h history.How) bool {
	return slices.Contains([]history.How{history.TCP, history.HTTPGet, history.HTTPPost}, h)
}
