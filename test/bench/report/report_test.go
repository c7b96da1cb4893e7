package report

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/bench/rig"
	"github.com/underlane/underlane/test/bench/stats"
)

func sample() *Report {
	r := &Report{Commit: "c0ffee", Rounds: 2, Quick: true, LeftOut: map[string]string{"envoy": "no pip"}}
	for i, name := range []string{rig.Direct, Ours, "floor", "nginx"} {
		c := r.Cell(name, rig.CrossNode, "http1-16")
		n := float64(i + 1)
		c.Rate, c.P99, c.PacedAt = stats.Sample{1000 * n, 1100 * n}, stats.Sample{10 * n, math.NaN()}, 400
		if i > 0 {
			c.CPU = stats.Sample{n, n}
		}
	}
	r.Cell(Ours, rig.CrossNode, "http1-16").Counts = &rig.Counts{Calls: map[string]float64{"read": 3, "read!": 1, "write": 2, "rare": 0.001}, Allocs: 1.5}
	for i, name := range []string{rig.Direct, rig.Observed} {
		c := r.Cell(name, rig.CrossNode, "grpc")
		n := float64(i)
		c.Rate, c.P50, c.PacedAt = stats.Sample{1000 - 50*n, 2000 - 100*n}, stats.Sample{80 + 3.5*n, 90 + 3.5*n}, 400
		if i > 0 {
			c.Seen = stats.Sample{0.5, 0.5}
		}
	}
	c := r.Cell(Ours, rig.CrossNode, "tcp-1")
	c.Volume, c.Rate, c.CPU = true, stats.Sample{1e9, 1e9}, stats.Sample{2, 2}
	return r
}

func TestMarkdown(t *testing.T) {
	text := sample().Markdown()
	for _, want := range []string{
		"c0ffee", "no basis for claims", "| x floor |", "| x nginx |", "p50 µs at 400/s", "2100 ±5%",
		"5.00 |   1.50 |", "8.00 ±0%", "Gbit/s", "read 3.00 (1.00 failed), write 2.00\n", "Left out: envoy (no pip).",
		"| rate x direct | seen |", "|          0.95 | 0.50 |", "|     +3.5 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("want %q in:\n%s", want, text)
		}
	}
	var width int
	for line := range strings.Lines(text) {
		switch {
		case !strings.HasPrefix(line, "|"):
			width = 0
		case width == 0:
			width = len([]rune(line))
		case len([]rune(line)) != width:
			t.Errorf("got the line %q, want all lines aligned", line)
		}
	}
}

func TestChartsAreWellFormed(t *testing.T) {
	charts := sample().Charts()
	for _, name := range []string{"cpu-cross-node", "rate-cross-node", "p99-cross-node", "volume-cross-node"} {
		if charts[name] == nil {
			t.Fatalf("got the charts %v, want %s among them", charts, name)
		}
	}
	if len(charts) != 4 {
		t.Errorf("%d charts, want 4: nothing was measured on the same node", len(charts))
	}
	charts["cpu-cross-node"].Groups[0].Bars[0].Label = `<&">`
	for name, c := range charts {
		d := xml.NewDecoder(strings.NewReader(c.SVG()))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: got %v, want well-formed XML:\n%s", name, err, c.SVG())
			}
		}
		if strings.Contains(c.SVG(), "NaN") || strings.Contains(c.SVG(), "Inf") {
			t.Errorf("%s: got a bar that is not a number, want none:\n%s", name, c.SVG())
		}
	}
	if bars := charts["cpu-cross-node"].Groups[0].Bars; len(bars) != 3 || !bars[0].Ours || bars[1].Ours {
		t.Errorf("got the bars %+v, want 3 with ours first", bars)
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0.123: "0.12", 12.34: "12.3", 123.4: "123", 12345: "12.3k"} {
		if got := short(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestReadWhatWasWritten(t *testing.T) {
	dir := t.TempDir()
	r := sample()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	back, err := Read(dir + "/results.json")
	if err != nil || back.Markdown() != r.Markdown() {
		t.Errorf("read again: got %v, want the same report:\n%s", err, back.Markdown())
	}
}
