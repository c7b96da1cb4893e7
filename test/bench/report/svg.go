package report

import (
	"fmt"
	"html"
	"math"
	"strings"

	"github.com/underlane/underlane/test/bench/rig"
	"github.com/underlane/underlane/test/bench/stats"
	"github.com/underlane/underlane/test/bench/work"
)

// Chart is a chart with groups of horizontal bars.
type Chart struct {
	Title, Unit string
	Groups      []Group
}

// Group is a group of bars with a heading and its own scale.
type Group struct {
	Title string
	Bars  []Bar
}

// Bar is a value, with the lowest and the highest of its rounds.
type Bar struct {
	Label            string
	Value, Low, High float64
	Ours             bool // drawn to stand out
}

// Sizes in a chart, in pixels.
const (
	chartWidth  = 720
	labelWidth  = 110
	valueWidth  = 90
	barHeight   = 16
	barGap      = 4
	groupHead   = 26
	chartMargin = 16
	titleHeight = 34
)

// SVG draws the chart. It is legible on a light and on a dark page.
func (c *Chart) SVG() string {
	height := titleHeight + chartMargin
	for _, g := range c.Groups {
		height += groupHead + len(g.Bars)*(barHeight+barGap)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-label="%s">`+"\n",
		chartWidth, height, html.EscapeString(c.Title))
	b.WriteString("<style>text{font:12px system-ui,sans-serif;fill:#334}.t{font-size:15px;font-weight:600}.g{font-weight:600}.v{font-variant-numeric:tabular-nums}.b{fill:#9ab}.o{fill:#0a7d5a}.e{stroke:#334;stroke-width:1.5}" +
		"@media(prefers-color-scheme:dark){text{fill:#cdd}.b{fill:#567}.o{fill:#2bb98a}.e{stroke:#cdd}}</style>\n")
	fmt.Fprintf(&b, `<text class="t" x="%d" y="22">%s (%s)</text>`+"\n", chartMargin, html.EscapeString(c.Title), html.EscapeString(c.Unit))
	y := titleHeight
	for _, g := range c.Groups {
		fmt.Fprintf(&b, `<text class="g" x="%d" y="%d">%s</text>`+"\n", chartMargin, y+17, html.EscapeString(g.Title))
		y += groupHead
		top := 0.0
		for _, bar := range g.Bars {
			top = max(top, bar.High, bar.Value)
		}
		for _, bar := range g.Bars {
			bar.draw(&b, y, top)
			y += barHeight + barGap
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (bar Bar) draw(b *strings.Builder, y int, top float64) {
	const from = chartMargin + labelWidth
	scale := (chartWidth - from - valueWidth - chartMargin) / max(top, math.SmallestNonzeroFloat64)
	x := func(v float64) float64 { return from + v*scale }
	class := "b"
	if bar.Ours {
		class = "o"
	}
	middle := y + barHeight/2
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, from-8, y+12, html.EscapeString(bar.Label))
	fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`, class, from, y, max(bar.Value*scale, 1), barHeight)
	if bar.High > bar.Low {
		fmt.Fprintf(b, `<path class="e" d="M%.1f %dH%.1f"/>`, x(bar.Low), middle, x(bar.High))
	}
	fmt.Fprintf(b, `<text class="v" x="%.1f" y="%d">%s</text>`+"\n", x(max(bar.Value, bar.High))+6, y+12, short(bar.Value))
}

// short formats a value with three significant digits.
func short(v float64) string {
	switch {
	case v >= 10000:
		return fmt.Sprintf("%.1fk", v/1000)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// Charts returns the plots of a report, by the names of their files.
func (r *Report) Charts() map[string]*Chart {
	out := map[string]*Chart{}
	for _, t := range rig.Topologies {
		for _, f := range []struct {
			name, title, unit string
			volume            bool
			of                func(*Cell) stats.Sample
			scale             float64
		}{
			{"cpu", "Processor time of the proxies", "CPU seconds for a million requests, less is better", false, func(c *Cell) stats.Sample { return c.CPU }, 1},
			{"rate", "Requests at saturation", "requests a second, more is better", false, func(c *Cell) stats.Sample { return c.Rate }, 1},
			{"p99", "99th percentile at a fixed rate", "µs, less is better", false, func(c *Cell) stats.Sample { return c.P99 }, 1},
			{"volume", "Opaque TCP", "Gbit/s, more is better", true, func(c *Cell) stats.Sample { return c.Rate }, 8e-9},
		} {
			chart := &Chart{Title: f.title + ", " + string(t), Unit: f.unit}
			for _, w := range work.Works {
				if g := r.group(t, w, f.of, f.scale); w.Volume() == f.volume && len(g.Bars) > 0 {
					chart.Groups = append(chart.Groups, g)
				}
			}
			if len(chart.Groups) > 0 {
				out[f.name+"-"+string(t)] = chart
			}
		}
	}
	return out
}

func (r *Report) group(t rig.Topology, w work.Work, of func(*Cell) stats.Sample, scale float64) Group {
	g := Group{Title: w.Title}
	for _, s := range r.Subjects() {
		c := r.Find(s, t, w.Name)
		if c == nil {
			continue
		}
		sample := of(c)
		m := sample.Median()
		if math.IsNaN(m) || m == 0 {
			continue
		}
		bar := Bar{Label: s, Value: m * scale, Low: math.Inf(1), Ours: s == Ours}
		for _, v := range sample {
			if !math.IsNaN(v) {
				bar.Low, bar.High = min(bar.Low, v*scale), max(bar.High, v*scale)
			}
		}
		g.Bars = append(g.Bars, bar)
	}
	return g
}

// Ours is the subject for the agent of this tree.
const Ours = "underlane"
