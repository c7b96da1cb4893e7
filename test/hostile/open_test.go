package hostile

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// shortcoming is what attacks do to the mesh and should not. A rule that they do not
// break any more fails the full form until it is taken off the list.
type shortcoming struct {
	attacks string // patterns of path.Match
	rules   string // that they break: constants of judge_test.go
	may     string // that they break at times
	figure  string // when it was written down
	cause   string
}

var open = []shortcoming{
	{
		attacks: "tls/bomb tls/bad tls/stalled tls/valid",
		may:     ruleLatency,
		figure:  "p99 from 0.6–4 ms to 3–5 ms",
		cause: "Half of the processors are for handshakes (pkg/mtls/gate.go). With two of them the traffic shares what is left with accepting and reading for the handshakes. " +
			"One with a certificate bomb costs less than an ordinary one.",
	},
	{
		attacks: "tls/storm",
		may:     ruleLatency + " " + ruleRate,
		figure:  "p99 from 0.5–1.9 to 1.5–2.4 ms (near) and from 0.8–1.5 to 2.7–3.5 ms (far) in six runs, as streams of shared connections, node-2 84 MB; with a handshake for each (--opaque-streams=false), before looks were paced, 8–13 and 20–25 ms, 275 MB, 10,107 descriptors",
		cause: "As streams they are 1,000 new connections a second, through both agents. The quiet pods wait for up to 28 ms while the agents collect garbage, once, and for up to 21 ms when all connections end at once: " +
			"threads that hold Go's processors, with the long slice of a turn that was waited for, are not run by the kernel meanwhile. With a handshake for each: " +
			"The quiet pod's own connections wait for no handshake, and one handshake becomes ready with each turn, but half of the processors of both nodes compute handshakes for as long as the storm lasts: all of the two that there are here. " +
			"Few goroutines wait in Go's queue (9 or fewer for 95 % of the time, none for half of it), but they get a processor of the kernel late, at each step of a request. " +
			"Of the memory 90 MB are the heap of the open connections, 18 KB each, 20 MB their stacks, and as much as the heap again is left to the garbage collector before it runs: a handshake leaves 70 KB.",
	},
	{
		attacks: "conns/idle conns/idle-strict conns/slow-heads conns/slow-heads-inside conns/unanswered conns/unanswered-inside",
		may:     ruleLatency + " " + ruleRate,
		figure:  "p99 from 1–2.6 to 4–12 ms; conns/idle-strict and slow heads 1–3 ms",
		cause: "Some thousands of connections come in a moment, and what is refused comes again at once. Accepting and serving them has turns. " +
			"What is left was not looked into.",
	},
	{
		attacks: "conns/slow-readers-inside",
		may:     ruleLatency + " " + ruleRate,
		figure:  "p99 from 0.6–1.8 to 2–4 ms (near) and 3.5–7.5 ms (far), once in seven runs 12 and 20 ms; 5–12 and 9–16 ms before programs' sockets took less",
		cause: "500 responses of 50 MB go at full speed until their receivers' buffers are full, through two agents. The sockets of the servers and of their agent take 0.25 MB each beyond the first 64 (pkg/redirect/segment.go), about what they take without the mesh, and 4 MB each of the first 64. " +
			"The agents' own sockets take 128 KiB (pkg/rawio/unsent.go).",
	},
	{
		attacks: "conns/greedy",
		may:     ruleLatency + " " + ruleRate,
		figure:  "p99 from 1 to 4–7 ms (near) and 6–9 ms (far), 4 ms without the mesh",
		cause:   "A turn of another pod is awaited at each step of a request, in both agents: about 0.1 ms each. Threads in a turn that was waited for let the others go first (pkg/fairshare).",
	},
	{
		attacks: "http2/settings http2/settings-inside http2/reset http2/not-found http2/trailers-closed peer/settings peer/shared-settings peer/reset peer/shared-reset peer/streams-reset",
		may:     ruleLatency + " " + ruleRate,
		figure:  "p99 from 0.9–2.7 to 2–6 ms, http2/not-found 4–9 ms",
		cause: "Each of these has a rate that is let through (quota.Paces, windowsRate in pkg/l7proxy/http2/limits.go), or ends the connection, and the next one begins anew. " +
			"A piece of input takes some 200 µs, in which the other pods' turn is to come.",
	},
	{
		attacks: "peer/streams-unread",
		may:     ruleLatency,
		figure:  "p99 from 1.2–2.6 to 2.5–4 ms (near) and 3–5 ms (far); 6–12 ms before such streams counted",
		cause: "What the peer opens before its first reset is served: 60 streams on each connection, and those of a read. Each is a connection to the server, which writes up to 0.25 MB to it. " +
			"Later ones are read slowly (servedCost in pkg/l7proxy/mux/mux.go).",
	},
	{
		attacks: "http2/window-1 peer/window-1 http2/settings-bare http2/priority http2/unknown http2/update-1 http2/update-connection http2/data-1 http2/empty-data http2/continuation http2/ping peer/data-1 peer/shared-data-1 peer/shared-ping peer/streams-data-1 peer/streams-window-1",
		may:     ruleLatency,
		figure:  "p99 from 0.5–5 to 1–5 ms: mostly within the rule when nothing else runs",
		cause:   "Read slowly (framing in pkg/l7proxy/http2/limits.go). On a machine that other programs use a p99 of 1 to 3 ms is not steady.",
	},
	{
		attacks: "doors/node-api doors/node-api-idle doors/metrics-idle doors/controller-idle",
		may:     ruleLatency,
		figure:  "p99 from 1.5–2 to 3–7 ms on a machine that other programs use",
		cause:   "Thousands of connections a second are accepted, or refused by the kernel, in the node's own ports. That has no turns.",
	},
	{
		attacks: "http1/chunks http1/pipeline http1/pipeline-inside http1/fields",
		may:     ruleLatency,
		figure:  "p99 from 0.5–3 to 2–4 ms",
		cause:   "Chunks of a byte are read slowly (pkg/l7proxy/h1/pace.go). Pipelined requests are taken one after the other by a goroutine that has always something to do (pkg/l7proxy/h1/h1.go): others have their turn after 100 µs.",
	},
}

func (s *shortcoming) is(a attack) bool {
	return slices.ContainsFunc(strings.Fields(s.attacks), func(pattern string) bool {
		ok, err := path.Match(pattern, a.name)
		return ok && err == nil
	})
}

// known returns the entry of the open list that says that an attack breaks a rule, or
// may break it.
func known(a attack, rule string) *shortcoming {
	for i := range open {
		s := &open[i]
		if s.is(a) && (slices.Contains(strings.Fields(s.rules), rule) || slices.Contains(strings.Fields(s.may), rule)) {
			return s
		}
	}
	return nil
}

// expected are the rules that an attack has to break, as the list has it.
func expected(a attack) (rules []string) {
	for i := range open {
		if open[i].is(a) {
			rules = append(rules, strings.Fields(open[i].rules)...)
		}
	}
	return rules
}

// TestOpenHasAttacks: each pattern of the open list is of some attack, and each entry
// says enough.
func TestOpenHasAttacks(t *testing.T) {
	rules := []string{ruleStrict, ruleAlive, ruleMemory, ruleAnswered, ruleLatency, ruleRate, ruleLost, ruleFallback, ruleReleased}
	for _, s := range open {
		for _, pattern := range strings.Fields(s.attacks) {
			if !slices.ContainsFunc(attacks, func(a attack) bool { ok, err := path.Match(pattern, a.name); return ok && err == nil }) {
				t.Errorf("there is no attack %q", pattern)
			}
		}
		for _, rule := range strings.Fields(s.rules + " " + s.may) {
			if !slices.Contains(rules, rule) {
				t.Errorf("%s: there is no rule %q", s.attacks, rule)
			}
		}
		if s.cause == "" || s.figure == "" {
			t.Errorf("%s: no figure or no cause", s.attacks)
		}
	}
}
