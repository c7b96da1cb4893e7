package hostile

import (
	"fmt"
	"slices"
	"time"
)

// Rules that the mesh has to keep under each attack.
const (
	ruleStrict   = "strict"   // nothing gets past a strict pod
	ruleAlive    = "alive"    // no agent and no controller ends
	ruleMemory   = "memory"   // none takes more than its container has
	ruleAnswered = "answered" // the quiet client gets all its answers
	ruleLatency  = "latency"  // and they take less than twice as long, and a millisecond
	ruleRate     = "rate"     // it makes as many requests as before, but for a tenth
	ruleLost     = "lost"     // an honest pod loses no connection
	ruleFallback = "fallback" // nothing goes in plaintext between pods of the mesh
	ruleReleased = "released" // what an attack took is given back after it
)

// Memory limits of the chart, daemonset/chart/underlane/values.yaml.
var memoryLimits = map[string]uint64{"node-1": 2 << 30, "node-2": 2 << 30, "controller": 1 << 30}

// finding is a rule that was broken, with the figure.
type finding struct{ rule, figure string }

// judge says which rules an attack broke. In the short form latency counts only where
// it is far off: runs are short, and other programs use the machine.
func judge(a attack, m, bare *measured) (out []finding) {
	add := func(rule, format string, args ...any) {
		out = append(out, finding{rule, fmt.Sprintf(format, args...)})
	}
	if m.probed.Past > 0 {
		add(ruleStrict, "%d of %d tries of an outsider got past: %v", m.probed.Past, m.probed.Tries, m.probed.Saw)
	}
	if a.to == vault && a.cert != "peer" && m.got.Got > 0 {
		add(ruleStrict, "the attacker got %d answers", m.got.Got)
	}
	for name, u := range m.used {
		if u.Gone {
			add(ruleAlive, "%s ended", name)
		}
		if u.RSS > memoryLimits[name] {
			add(ruleMemory, "%s took %d MB", name, u.RSS>>20)
		}
	}
	if a.honest && m.got.Lost > 0 {
		add(ruleLost, "%d of %d connections, %s", m.got.Lost, a.conns, m.got.Why)
	}
	if m.fallbacks > 0 {
		add(ruleFallback, "%d connections", m.fallbacks)
	}
	if m.kept > 0 {
		add(ruleReleased, "%d descriptors of node-2 were kept", m.kept)
	}
	for _, way := range ways {
		calm, under := m.calm[way], m.under[way]
		failed := under.Failed + m.fresh[way].Failed
		if failed > 0 {
			why := under.Why + m.fresh[way].Why
			add(ruleAnswered, "%s: %d of %d requests failed: %s", way, failed, under.Count+m.fresh[way].Count, why)
		}
		machine := time.Duration(0) // what the attack does without the mesh
		if bare != nil {
			machine = max(0, bare.under[way].P99-bare.calm[way].P99)
		}
		allowed := 2*calm.P99 + time.Millisecond + machine
		if !*full {
			allowed = max(20*calm.P99, 100*time.Millisecond)
		}
		if less := calm.Rate - under.Rate; *full && less > calm.Rate/10 {
			add(ruleRate, "%s: %.0f requests a second, %.0f before", way, under.Rate, calm.Rate)
		}
		if under.P99 > allowed {
			add(ruleLatency, "%s: p99 %s, %s before", way, ms(under.P99), ms(calm.P99))
		}
	}
	return out
}

func has(found []finding, rule string) bool {
	return slices.ContainsFunc(found, func(f finding) bool { return f.rule == rule })
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond)) }
