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
	for i, name := range []string{rig.Direct, Ours} {
		c := r.Cell(name, rig.CrossNode, "http1-1")
		n := float64(i)
		c.P50, c.P99 = stats.Sample{30 + 41.5*n, 32 + 41.5*n}, stats.Sample{100, 100}
	}
	c := r.Cell(Ours, rig.CrossNode, "tcp-1")
	c.Volume, c.Rate, c.CPU = true, stats.Sample{1e9, 1e9}, stats.Sample{2, 2}
	return r
}

func TestAdd(t *testing.T) {
	other := func(change func(*Report)) *Report {
		r := sample()
		r.Cells = nil
		r.Cell(Ours, rig.SameNode, "http1-16").Rate = stats.Sample{1, 2}
		change(r)
		return r
	}
	for _, tt := range []struct {
		name   string
		change func(*Report)
		want   string // in the error; empty: they are added
	}{
		{"other works", func(*Report) {}, ""},
		{"another commit", func(r *Report) { r.Commit = "decade" }, "the runs differ: c0ffee"},
		{"another machine", func(r *Report) { r.Machine.Cores = 64 }, "the runs differ"},
		{"another length", func(r *Report) { r.Seconds = 4 }, "the runs differ"},
		{"the same work", func(r *Report) { r.Cell("nginx", rig.CrossNode, "grpc") }, "both runs have grpc, cross-node"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := sample()
			err := r.Add(other(tt.change))
			added := r.Find(Ours, rig.SameNode, "http1-16") != nil
			if added != (tt.want == "") || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("added %v, error %v, want an error with %q", added, err, tt.want)
			}
		})
	}
}

func TestMarkdown(t *testing.T) {
	text := sample().Markdown()
	for _, want := range []string{
		"c0ffee", "no basis for claims", "| x floor |", "| x nginx |", "p50 µs at 400/s", "2100 ±5%",
		"5.00 |   1.50 |", "8.00 ±0%", "Gbit/s", "read 3.00 (1.00 failed), write 2.00\n", "Left out: envoy (no pip).",
		"| rate x direct | seen |", "|          0.95 | 0.50 |", "|     +3.5 |",
		"| p50 µs | - direct |", "|    +41.5 |",
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
