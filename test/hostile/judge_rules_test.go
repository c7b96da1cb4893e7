package hostile

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// quiet is what a quiet client feels whose p99 and rate are these.
func quiet(p99 time.Duration, rate float64) map[string]felt {
	f := felt{P99: p99, Rate: rate, Count: 100}
	return map[string]felt{"near": f, "far": f}
}

// TestJudge: each rule is told when it is broken, and only then.
func TestJudge(t *testing.T) {
	was := *full
	*full = true
	t.Cleanup(func() { *full = was })
	a := attack{name: "x", to: vault, conns: 10, honest: true}
	for name, tc := range map[string]struct {
		change func(m, bare *measured)
		want   []string
	}{
		"nothing":                 {func(_, _ *measured) {}, nil},
		"the prober got in":       {func(m, _ *measured) { m.probed.Past = 1 }, []string{ruleStrict}},
		"the attacker got in":     {func(m, _ *measured) { m.got.Got = 1 }, []string{ruleStrict}},
		"an agent ended":          {func(m, _ *measured) { m.used["node-2"] = used{Gone: true} }, []string{ruleAlive}},
		"an agent took too much":  {func(m, _ *measured) { m.used["node-1"] = used{RSS: 2<<30 + 1} }, []string{ruleMemory}},
		"an answer did not come":  {func(m, _ *measured) { m.fresh["near"] = felt{Count: 5, Failed: 1} }, []string{ruleAnswered}},
		"a connection was lost":   {func(m, _ *measured) { m.got.Lost = 1 }, []string{ruleLost}},
		"one went in plaintext":   {func(m, _ *measured) { m.fallbacks = 1 }, []string{ruleFallback}},
		"descriptors were kept":   {func(m, _ *measured) { m.kept = 1 }, []string{ruleReleased}},
		"twice as slow and a bit": {func(m, _ *measured) { m.under = quiet(5100*time.Microsecond, 200) }, []string{ruleLatency, ruleLatency}},
		"twice as slow":           {func(m, _ *measured) { m.under = quiet(5*time.Millisecond, 200) }, nil},
		"so it is without the mesh": {func(m, b *measured) {
			m.under, b.under = quiet(14*time.Millisecond, 200), quiet(12*time.Millisecond, 200)
		}, nil},
		"a fifth of the requests":    {func(m, _ *measured) { m.under = quiet(2*time.Millisecond, 160) }, []string{ruleRate, ruleRate}},
		"a twentieth, which may be":  {func(m, _ *measured) { m.under = quiet(2*time.Millisecond, 190) }, nil},
		"the controller's own limit": {func(m, _ *measured) { m.used["controller"] = used{RSS: 1<<30 + 1} }, []string{ruleMemory}},
	} {
		t.Run(name, func(t *testing.T) {
			m := &measured{calm: quiet(2*time.Millisecond, 200), under: quiet(2*time.Millisecond, 200), fresh: map[string]felt{}, used: map[string]used{}}
			bare := &measured{calm: quiet(2*time.Millisecond, 200), under: quiet(2*time.Millisecond, 200)}
			tc.change(m, bare)
			var got []string
			for _, f := range judge(a, m, bare) {
				got = append(got, f.rule)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("rules that are broken (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFeel: only what was due in the spans counts, by server and kind.
func TestFeel(t *testing.T) {
	began := time.Now()
	var all []sample
	for i := range 100 {
		all = append(all,
			sample{Server: "far", At: began.Add(time.Duration(i) * 10 * time.Millisecond), Took: time.Duration(i) * time.Millisecond},
			sample{Server: "far", At: began, Fresh: true, Took: time.Hour},
			sample{Server: "near", At: began, Took: time.Hour})
	}
	all[3*95].Err = "no answer"
	got := feel(all, "far", false, []span{{began, began.Add(100 * time.Millisecond)}, {began.Add(900 * time.Millisecond), began.Add(time.Second)}})
	want := felt{
		P50: 90 * time.Millisecond, P99: 99 * time.Millisecond, Max: 99 * time.Millisecond, Rate: 100, Count: 20,
		Failed: 1, Why: "no answer",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
