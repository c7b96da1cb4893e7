package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/underlane/underlane/test/bench/rig"
	"github.com/underlane/underlane/test/bench/stats"
	"github.com/underlane/underlane/test/bench/work"
)

// column is a column in the table of a work.
type column struct {
	head string
	cell func(c *Cell) string
}

// figure returns a column for a sample, with its median and the spread of the
// rounds.
func figure(head, format string, scale float64, of func(*Cell) stats.Sample) column {
	return column{head, func(c *Cell) string {
		s := of(c)
		m := s.Median()
		if math.IsNaN(m) || m == 0 {
			return "–"
		}
		out := fmt.Sprintf(format, m*scale)
		if spread := s.Spread(); !math.IsNaN(spread) {
			out += fmt.Sprintf(" ±%.0f%%", spread*50)
		}
		return out
	}}
}

func number(head, format string, of func(*Cell) (float64, bool)) column {
	return column{head, func(c *Cell) string {
		if v, ok := of(c); ok {
			return fmt.Sprintf(format, v)
		}
		return "–"
	}}
}

func (r *Report) columns(t rig.Topology, w work.Work) []column {
	rate, cpu := figure("requests/s", "%.0f", 1, func(c *Cell) stats.Sample { return c.Rate }), "CPU s/M"
	if w.Volume() {
		rate, cpu = figure("Gbit/s", "%.2f", 8e-9, func(c *Cell) stats.Sample { return c.Rate }), "CPU s/GiB"
	}
	reference := func(name string) func(*Cell) (float64, bool) {
		return func(c *Cell) (float64, bool) {
			other := r.Find(name, t, w.Name)
			if other == nil || c.Subject == Direct {
				return 0, false
			}
			m := c.CPU.Ratio(other.CPU).Median()
			return m, !math.IsNaN(m)
		}
	}
	out := []column{
		{"", func(c *Cell) string { return c.Subject }},
		rate,
		figure(cpu, "%.2f", 1, func(c *Cell) stats.Sample { return c.CPU }),
	}
	for _, name := range []string{"floor", "floor-tls", "floor-pods", "nginx"} {
		if r.Find(name, t, w.Name) != nil {
			out = append(out, number("x "+name, "%.2f", reference(name)))
		}
	}
	observed := r.Find(rig.Observed, t, w.Name) != nil && r.Find(Direct, t, w.Name) != nil
	if observed {
		out = append(out,
			number("rate x direct", "%.2f", func(c *Cell) (float64, bool) {
				m := c.Rate.Ratio(r.Find(Direct, t, w.Name).Rate).Median()
				return m, c.Subject != Direct && !math.IsNaN(m)
			}),
			number("seen", "%.2f", func(c *Cell) (float64, bool) { return c.Seen.Median(), len(c.Seen) > 0 }),
		)
	}
	if !w.Volume() {
		out = append(out, figure("switches", "%.2f", 1, func(c *Cell) stats.Sample { return c.Switches }))
	}
	out = append(out, r.latencies(t, w)...)
	return append(out,
		figure("RSS MiB", "%.0f", 1.0/(1<<20), func(c *Cell) stats.Sample { return c.RSS }),
		number("KiB/idle conn", "%.1f", func(c *Cell) (float64, bool) { return c.IdleBytes / 1024, c.IdleBytes != 0 }),
		number("syscalls", "%.2f", func(c *Cell) (float64, bool) { return c.SystemCalls(), c.Counts != nil && c.Counts.Calls != nil }),
		number("allocs", "%.2f", func(c *Cell) (float64, bool) {
			if c.Counts == nil {
				return 0, false
			}
			return c.Counts.Allocs, c.Counts.Allocs >= 0
		}),
		column{"errors", func(c *Cell) string { return fmt.Sprint(c.Errors) }},
	)
}

// latencies returns the columns about latencies. They are measured at a rate, or of requests
// that follow each other.
func (r *Report) latencies(t rig.Topology, w work.Work) []column {
	p50, at := "p50 µs", r.pacedAt(t, w.Name)
	switch {
	case at > 0:
		p50 = fmt.Sprintf("p50 µs at %.0f/s", at)
	case !w.Alone():
		return nil
	}
	out := []column{figure(p50, "%.0f", 1, func(c *Cell) stats.Sample { return c.P50 })}
	if direct := r.Find(Direct, t, w.Name); direct != nil {
		out = append(out, number("- direct", "%+.1f", func(c *Cell) (float64, bool) {
			d := c.P50.Minus(direct.P50).Median()
			return d, c.Subject != Direct && !math.IsNaN(d)
		}))
	}
	out = append(out,
		figure("p99", "%.0f", 1, func(c *Cell) stats.Sample { return c.P99 }),
		figure("p99.9", "%.0f", 1, func(c *Cell) stats.Sample { return c.P999 }))
	if at > 0 {
		out = append(out, figure("CPU s/M", "%.0f", 1, func(c *Cell) stats.Sample { return c.PacedCPU }))
	}
	return out
}

// Direct is the subject without a proxy.
const Direct = rig.Direct

// SystemCalls returns the system calls per request, NaN if they were not counted.
func (c *Cell) SystemCalls() float64 {
	if c.Counts == nil || c.Counts.Calls == nil {
		return math.NaN()
	}
	sum := 0.0
	for name, n := range c.Counts.Calls {
		if !strings.HasSuffix(name, "!") {
			sum += n
		}
	}
	return sum
}

func (r *Report) pacedAt(t rig.Topology, work string) float64 {
	for _, c := range r.Cells {
		if c.Topology == t && c.Work == work && c.PacedAt > 0 {
			return c.PacedAt
		}
	}
	return 0
}

// Markdown returns the report as tables, one for each work and topology.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Results\n\n%s, commit %s, %s, %d cores, Linux %s. %d rounds of %.1f s, interleaved; medians, ± half the distance of lowest and highest.\n",
		r.When.UTC().Format("2006-01-02 15:04"), r.Commit, r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Rounds, r.Seconds)
	if r.Quick {
		b.WriteString("\n**A quick run: it shows that everything works. Its figures are no basis for claims.**\n")
	}
	for _, t := range rig.Topologies {
		for _, w := range work.Works {
			if rows := r.table(t, w); rows != nil {
				fmt.Fprintf(&b, "\n## %s, %s\n\n", w.Title, t)
				writeTable(&b, rows)
			}
		}
	}
	if calls := r.calls(); calls != "" {
		b.WriteString("\n## System calls a request\n\n" + calls)
	}
	for _, name := range slices.Sorted(maps.Keys(r.LeftOut)) {
		fmt.Fprintf(&b, "\nLeft out: %s (%s).\n", name, r.LeftOut[name])
	}
	return b.String()
}

func (r *Report) table(t rig.Topology, w work.Work) [][]string {
	columns := r.columns(t, w)
	var rows [][]string
	for _, s := range r.Subjects() {
		c := r.Find(s, t, w.Name)
		if c == nil {
			continue
		}
		if rows == nil {
			rows = append(rows, nil)
			for _, col := range columns {
				rows[0] = append(rows[0], col.head)
			}
		}
		var row []string
		for _, col := range columns {
			row = append(row, col.cell(c))
		}
		rows = append(rows, row)
	}
	return rows
}

// calls lists the system calls of all cells.
func (r *Report) calls() string {
	var b strings.Builder
	for _, c := range r.Cells {
		if c.Counts == nil || len(c.Counts.Calls) == 0 {
			continue
		}
		fmt.Fprintf(&b, "- %s, %s, %s: %s\n", c.Work, c.Topology, c.Subject, c.Counts)
	}
	return b.String()
}

// writeTable writes an aligned Markdown table, which is also legible on a terminal.
func writeTable(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, text := range row {
			widths[i] = max(widths[i], len([]rune(text)))
		}
	}
	for n, row := range rows {
		for i, text := range row {
			pad := strings.Repeat(" ", widths[i]-len([]rune(text)))
			if i == 0 {
				fmt.Fprintf(b, "| %s%s ", text, pad)
			} else {
				fmt.Fprintf(b, "| %s%s ", pad, text)
			}
		}
		b.WriteString("|\n")
		if n == 0 {
			for i, w := range widths {
				fmt.Fprintf(b, "|%s%s", strings.Repeat("-", w+1), map[bool]string{true: "-", false: ":"}[i == 0])
			}
			b.WriteString("|\n")
		}
	}
}
