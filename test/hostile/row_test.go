package hostile

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
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

// table is the rows as Markdown, for docs/isolation.md. The name of an attack that broke a rule is
// bold.
func table(rows []row) string {
	var b strings.Builder
	b.WriteString("| Attack | bare p99 | near p50 | near p99 | far p50 | far p99 | a second | MB, descriptors |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, r := range rows {
		m := r.meshed
		if m == nil {
			continue
		}
		name, bare := "`"+r.name+"`", "–"
		if len(r.found) > 0 {
			name = "**" + name + "**"
		}
		if r.bare != nil {
			bare = arrow(longer(r.bare.calm), longer(r.bare.under))
		}
		fmt.Fprintf(&b, "| %s: %s | %s ", name, r.what, bare)
		least := math.Inf(1)
		for _, way := range ways {
			c, u := m.calm[way], m.under[way]
			least = min(least, u.Rate)
			fmt.Fprintf(&b, "| %s | %s ", arrow(c.P50, u.P50), arrow(c.P99, u.P99))
		}
		var rss uint64
		fds := 0
		for name, u := range m.used {
			if strings.HasPrefix(name, "node-") {
				rss, fds = max(rss, u.RSS), max(fds, u.FDs)
			}
		}
		fmt.Fprintf(&b, "| %.0f | %d, %d |\n", min(least, 200), rss>>20, fds)
	}
	return b.String()
}

// longer is the p99 of the quiet pod whose is longer.
func longer(felt map[string]felt) (p99 time.Duration) {
	for _, f := range felt {
		p99 = max(p99, f.P99)
	}
	return p99
}

// arrow is two times in milliseconds.
func arrow(before, after time.Duration) string {
	return fmt.Sprintf("%.1f → %.1f", before.Seconds()*1000, after.Seconds()*1000)
}
