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
		figure:  "p99 from 2–3 ms to 5–7 ms",
		cause: "Half of the processors are for handshakes (pkg/mtls/gate.go). With two of them the traffic shares what is left with accepting and reading for the handshakes. " +
			"One with a certificate bomb costs less than an ordinary one.",
	},
	{
		attacks: "tls/storm",
		rules:   ruleLatency, may: ruleRate,
		figure: "p99 from 2–3 to 363 ms (near) and 378 ms (far); the last of 5,000 after 14 s; node-2 39 to 262 MB, 10,077 descriptors",
		cause: "The quiet pod's own connections wait for no handshake, and one handshake becomes ready with each turn, but half of the processors of both nodes compute handshakes for as long as the storm lasts. " +
			"Of the memory 90 MB are the heap of the open connections, 18 KB each, 20 MB their stacks, and as much as the heap again is left to the garbage collector before it runs: a handshake leaves 70 KB.",
	},
	{
		attacks: "conns/idle conns/idle-strict",
		may:     ruleLatency + " " + ruleRate,
		figure:  "p99 from 1 to 4 ms (strict) and 146 ms; 90 to 115 MB, 4,900 descriptors",
		cause: "A client without an identity gets a quarter of the descriptors (pkg/l7proxy/quota). Each of its connections is a goroutine that becomes ready twice in its first milliseconds, " +
			"and what is refused comes again at once.",
	},
	{
		attacks: "conns/slow-heads conns/slow-heads-inside",
		may:     ruleLatency,
		figure:  "p99 from 9 to 60 ms (inside, far); 207 MB",
		cause:   "5,000 goroutines of one pod become ready together, and pods have no turns.",
	},
	{
		attacks: "conns/slow-readers",
		may:     ruleLatency,
		figure:  "p99 from 5 to 132 ms",
		cause:   "Until their receivers' buffers are full 500 responses go at full speed; pods have no turns.",
	},
	{
		attacks: "conns/slow-readers-inside conns/greedy",
		rules:   ruleLatency, may: ruleRate,
		figure: "greedy: p50 from 0.3 to 54 ms (near) and 282 ms (far), p99 from 2–5 ms to 0.6–0.9 s, 16 ms without the mesh",
		cause: "One run queue for all pods: the goroutines of 256 busy connections are ready at all times, and those of the quiet pod wait behind them at each of their steps, " +
			"in both agents. Nothing knows whose work a goroutine does.",
	},
	{
		attacks: "http2/settings http2/settings-inside http2/priority http2/unknown http2/update-1 http2/update-connection http2/continuation",
		rules:   ruleLatency, may: ruleRate,
		figure: "p99 from 2–7 ms to 0.8–1.1 s; 38 of 200 requests a second",
		cause: "The reader of an HTTP/2 connection (Conn.read in pkg/l7proxy/h2conn/conn.go) goes on as long as there are bytes. " +
			"No account is kept of frames that carry nothing. Four such readers are always ready to run, and Go looks at other sockets every 10 ms meanwhile.",
	},
	{
		attacks: "http2/data-1 http2/window-1",
		rules:   ruleLatency, may: ruleRate,
		figure: "p99 from 4–23 ms to 1.0–1.2 s; 33 of 200 requests a second",
		cause: "A byte in a frame of its own costs as much as a whole one, at both sides: it is passed on at once and alone " +
			"(pkg/l7proxy/h2/pipe.go, WriteData in pkg/l7proxy/http2/send.go), and work is not set against useful bytes.",
	},
	{
		attacks: "http2/settings-bare http2/empty-data http2/reset http2/not-found http2/ping http2/trailers-closed",
		may:     ruleLatency + " " + ruleRate,
		figure:  "p99 from 3–23 ms to 0.05–0.6 s",
		cause: "The connection is ended, and the same client comes again at once: nothing is remembered of its pod or address, " +
			"and up to 4 MiB are read and dropped after the end (pkg/l7proxy/h2conn/end.go).",
	},
	{
		attacks: "peer/settings peer/data-1 peer/window-1 peer/shared-data-1 peer/shared-settings",
		rules:   ruleLatency, may: ruleRate,
		figure: "p99 from 1–60 ms to 1.0–1.2 s; 34 of 200 requests a second",
		cause:  "As with the same frames of a pod: a valid certificate brings neither less nor more.",
	},
	{
		attacks: "peer/reset peer/shared-reset",
		may:     ruleLatency,
		figure:  "p99 from 2–4 ms to 5–9 ms; memory from 47 to 55 MB",
		cause:   "10,000 resets a second are read, twice the rate of a pod (quota.Paces), before the peer waits.",
	},
	{
		attacks: "peer/shared-ping",
		may:     ruleLatency + " " + ruleRate,
		figure:  "p50 from 13 to 21 ms, beside other programs",
		cause:   "The connection is ended, and the same peer comes again at once.",
	},
	{
		attacks: "http1/chunks",
		rules:   ruleLatency, may: ruleRate,
		figure: "p99 from 2 ms to 0.5 s",
		cause: "Chunks of 1 byte are allowed without end: the framing in proportion (beginChunk in pkg/l7proxy/http1/chunked.go) forgives 18 bytes for each chunk, " +
			"they are parsed byte by byte (Body.step), and the reader goes on as long as there are bytes.",
	},
	{
		attacks: "http1/pipeline http1/pipeline-inside http1/fields",
		may:     ruleLatency,
		figure:  "p99 from 3 ms to 0.05–0.17 s",
		cause:   "Pipelined requests are taken one after the other by a goroutine that has always something to do (pkg/l7proxy/h1/h1.go); pods have no turns.",
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
