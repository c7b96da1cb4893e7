package bench

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/bench/report"
	"github.com/underlane/underlane/test/bench/rig"
	"github.com/underlane/underlane/test/bench/stats"
	"github.com/underlane/underlane/test/bench/work"
	"github.com/underlane/underlane/test/lab"
)

// TestMain makes the test binary also the program that runs in the pods.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"serve", "load", "scrape", "reverse-proxy"}, os.Args[1]) {
		os.Exit(Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// TestHarness runs everything in the smallest setting and checks that each figure
// is there. It does not check their values.
func TestHarness(t *testing.T) {
	lab.New(t) // skips the test without root
	bin := lab.Bin(t)
	s := &settings{
		quick: true, works: "http1-16|grpc|tcp-1", topologies: "cross-node",
		duration: 200 * time.Millisecond, tools: bin, bin: bin,
	}
	wanted := []string{rig.Direct, rig.Observed, report.Ours, "floor-tls"}
	r, err := s.measure(t.Context(), report.Ours, []rig.Build{{Name: report.Ours, Bin: bin}}, wanted)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Subjects(); !slices.Equal(got, wanted) {
		t.Errorf("measured %v, want %v", got, wanted)
	}
	for _, c := range r.Cells {
		name := c.Subject + ", " + string(c.Topology) + ", " + c.Work
		if c.Errors > 0 {
			t.Errorf("%s: %d errors, want none: %s", name, c.Errors, c.Error)
		}
		if !(c.Rate.Median() > 0) {
			t.Errorf("%s: got no rate, want one", name)
		}
		if c.Subject == rig.Observed && !(c.Seen.Median() > 0) {
			t.Errorf("%s: got nothing that was seen, want something", name)
		}
		if c.Subject == rig.Direct || c.Subject == rig.Observed {
			continue
		}
		if !(c.CPU.Median() > 0) || !(c.RSS.Median() > 0) {
			t.Errorf("%s: got processor time %v, resident size %v; want both", name, c.CPU, c.RSS)
		}
		if !c.Volume && !(c.P50.Median() > 0) {
			t.Errorf("%s: got no latency, want one", name)
		}
		if !c.Volume && !(c.SystemCalls() > 0) {
			t.Errorf("%s: got %+v, want system calls", name, c.Counts)
		}
		if !c.Volume && c.Subject == report.Ours && c.Counts.Allocs < 0 {
			t.Errorf("%s: got no allocations (%s), want some", name, c.Counts.Problem)
		}
	}
	dir := t.TempDir()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"results.json", "results.md", "cpu-cross-node.svg", "volume-cross-node.svg"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Error(err)
		}
	}
	if got := command(context.Background(), []string{"plot", dir}); got != nil {
		t.Errorf("plot: got %v, want no error", got)
	}
}

func TestRate(t *testing.T) {
	w, other := work.Works[0], work.Works[1]
	r := &report.Report{}
	for name, rate := range map[string]float64{"a": 12345, "b": 500} {
		r.Cell(name, rig.CrossNode, w.Name).Rate = stats.Sample{rate, 7}
		r.Cell(name, rig.CrossNode, other.Name).Rate = stats.Sample{10, 10}
	}
	for _, c := range []struct {
		plan Plan
		work work.Work
		want float64
	}{
		{Plan{Reference: "a"}, w, 4900},
		{Plan{Reference: "none"}, w, 200}, // the slowest
		{Plan{Reference: "a"}, other, 100},
		{Plan{Reference: "a", PacedAt: 3}, w, 3},
	} {
		if got := c.plan.rate(r, rig.CrossNode, c.work); got != c.want {
			t.Errorf("%+v: %v, want %v", c.plan, got, c.want)
		}
	}
}

func TestCompare(t *testing.T) {
	r := &report.Report{Commit: "x and y", Rounds: 3}
	for name, scale := range map[string]float64{"A": 1, "B": 0.5} {
		c := r.Cell(name, rig.SameNode, "http1-16")
		c.CPU = stats.Sample{10 * scale, 20 * scale, 30 * scale}
		c.Rate = stats.Sample{100 * scale, 100 * scale, 100 * scale}
		c.P99 = stats.Sample{5, 5, 5}
		c.Counts = &rig.Counts{Calls: map[string]float64{"read": 4 * scale, "read!": 1}, Allocs: 2 * scale}
	}
	text := Compare(r, "A", "B")
	for _, want := range []string{
		"x and y", "rate       0.500  (0.500 to 0.500)  100 → 50  WORSE", "CPU        0.500  (0.500 to 0.500)  20 → 10  better",
		"p99        1.000  (1.000 to 1.000)  5 → 5\n", "syscalls   0.500  4.00 → 2.00", "allocs     2.00 → 1.00",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("want %q in:\n%s", want, text)
		}
	}
}

func TestCommandLineRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"run", "-subjects", "nobody"},
		{"run", "-work", "nothing", "-subjects", "direct"},
		{"run", "-topology", "moon"},
		{"run", "-nonsense"},
		{"diff", "one"},
		{"plot", "/nowhere"},
		{"plot"},
		{"load", "no json"},
	} {
		if err := command(t.Context(), args); err == nil {
			t.Errorf("%v: got no error, want one", args)
		}
	}
}

func TestReportSurvivesJSON(t *testing.T) {
	r := &report.Report{Rounds: 1}
	r.Cell("a", rig.CrossNode, "grpc").P99 = stats.Sample{1}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back report.Report
	if err := json.Unmarshal(text, &back); err != nil || back.Find("a", rig.CrossNode, "grpc").P99[0] != 1 || back.Find("b", rig.CrossNode, "grpc") != nil {
		t.Errorf("read again: got %+v, %v; want the same report", back, err)
	}
}
