package hostile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// row is what is printed of an attack.
type row struct {
	attack
	bare, meshed *measured // bare: nil where the attack is not run without the mesh
	found        []finding
}

func (r row) String() string {
	m := r.meshed
	var b strings.Builder
	fmt.Fprintf(&b, "attacker: %d connections (%d refused or cut), %d sent (%d KB), %d answers (%d KB)",
		m.got.Opened, m.got.Refused, m.got.Sent, m.got.SentBytes>>10, m.got.Got, m.got.GotBytes>>10)
	if m.got.Lost > 0 || m.got.Last > 0 {
		fmt.Fprintf(&b, ", %d lost, the last after %s", m.got.Lost, ms(m.got.Last))
	}
	if m.got.Why != "" {
		fmt.Fprintf(&b, "; %s", m.got.Why)
	}
	for _, way := range ways {
		c, u, f := m.calm[way], m.under[way], m.fresh[way]
		fmt.Fprintf(&b, "\n%s: p50 %s → %s, p99 %s → %s, longest %s, %.0f → %.0f a second; new connections p50 %s, p99 %s; %d failed %s", way,
			ms(c.P50), ms(u.P50), ms(c.P99), ms(u.P99), ms(u.Max), c.Rate, u.Rate, ms(f.P50), ms(f.P99), u.Failed+f.Failed, u.Why+f.Why)
		if r.bare != nil {
			c, u := r.bare.calm[way], r.bare.under[way]
			fmt.Fprintf(&b, "; bare p50 %s → %s, p99 %s → %s", ms(c.P50), ms(u.P50), ms(c.P99), ms(u.P99))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.used)) {
		u := m.used[name]
		fmt.Fprintf(&b, "\n%s: %.2f processors under attack%s, %d → %d MB, %d descriptors", name, m.processors(name), m.each(name), u.Before>>20, u.RSS>>20, u.FDs)
	}
	if m.probed.Tries > 0 {
		fmt.Fprintf(&b, "\nstrict: %d tries, %d past, %v", m.probed.Tries, m.probed.Past, m.probed.Saw)
	}
	for _, f := range r.found {
		state := "NEW"
		if known(r.attack, f.rule) != nil {
			state = "open"
		}
		fmt.Fprintf(&b, "\n%s: %s: %s", state, f.rule, f.figure)
	}
	return b.String()
}

// processors is how many a process of the mesh had under attack, on average.
func (m *measured) processors(name string) float64 {
	return m.used[name].CPU.Seconds() / max(m.lasted.Seconds(), 1e-3)
}

// each is the processor time for each thing that the attacker sent. The quiet clients'
// requests are in it.
func (m *measured) each(name string) string {
	n := max(m.got.Sent, m.got.Opened)
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%.1f µs each)", float64(m.used[name].CPU.Nanoseconds())/1e3/float64(n))
}

// table is the rows as Markdown, for docs/isolation.md.
func table(rows []row) string {
	var b strings.Builder
	b.WriteString("| Attack | bare p99 | p50 near | p99 near | p50 far | p99 far | failed | node-2: processors, memory, descriptors | past strict |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		m := r.meshed
		if m == nil {
			continue
		}
		bare := "–"
		if r.bare != nil {
			bare = arrow(r.bare.calm["far"].P99.Seconds(), r.bare.under["far"].P99.Seconds())
		}
		fmt.Fprintf(&b, "| `%s` | %s ", r.name, bare)
		failed := 0
		for _, way := range ways {
			c, u := m.calm[way], m.under[way]
			failed += u.Failed + m.fresh[way].Failed
			fmt.Fprintf(&b, "| %s | %s ", arrow(c.P50.Seconds(), u.P50.Seconds()), arrow(c.P99.Seconds(), u.P99.Seconds()))
		}
		u := m.used["node-2"]
		fmt.Fprintf(&b, "| %d | %.2f, %d MB, %d | %d of %d |\n", failed, m.processors("node-2"), u.RSS>>20, u.FDs, m.probed.Past, m.probed.Tries)
	}
	return b.String()
}

// arrow is two times in milliseconds.
func arrow(before, after float64) string {
	return fmt.Sprintf("%.1f → %.1f", before*1000, after*1000)
}
