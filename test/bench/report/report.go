// Package report has the results of a benchmark run, as data, tables and plots.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/test/bench/rig"
	"github.com/underlane/underlane/test/bench/stats"
)

// Report is the result of a run.
type Report struct {
	When    time.Time
	Commit  string // version that was measured
	Machine Machine
	Quick   bool // too short for claims
	Rounds  int
	Seconds float64 // of each measurement
	LeftOut map[string]string
	Cells   []*Cell
}

// Machine describes the machine of the run.
type Machine struct {
	CPU    string
	Cores  int
	Kernel string
}

// Cell has the measurements of one subject with one work.
type Cell struct {
	Subject, Work string
	Topology      rig.Topology
	Volume        bool // measured in bytes, not in requests

	// At saturation, one entry for each round.
	Rate     stats.Sample // requests (or bytes) per second
	CPU      stats.Sample // CPU seconds of the proxies per million requests, or per GiB
	Switches stats.Sample // context switches of the proxies per request
	RSS      stats.Sample // resident bytes of the proxies
	Seen     stats.Sample `json:",omitempty"` // share of the segments that agents have seen, of those that they observe

	// At a given rate, one entry for each round.
	PacedAt        float64             // requests per second; 0: not measured
	P50, P99, P999 stats.Sample        // latency in microseconds
	PacedCPU       stats.Sample        // like CPU
	Latency        histogram.Histogram // of all rounds
	Late           stats.Sample        // p99 of how late the clients were, in microseconds

	Counts *rig.Counts `json:",omitempty"`
	// IdleBytes is the number of resident bytes per idle connection; 0: not measured.
	IdleBytes float64 `json:",omitempty"`
	Errors    uint64
	Error     string `json:",omitempty"`
}

// Cell returns a cell, which it adds if it does not exist.
func (r *Report) Cell(subject string, t rig.Topology, work string) *Cell {
	for _, c := range r.Cells {
		if c.Subject == subject && c.Topology == t && c.Work == work {
			return c
		}
	}
	c := &Cell{Subject: subject, Topology: t, Work: work}
	r.Cells = append(r.Cells, c)
	return c
}

// Find returns a cell, or nil if it does not exist.
func (r *Report) Find(subject string, t rig.Topology, work string) *Cell {
	i := slices.IndexFunc(r.Cells, func(c *Cell) bool { return c.Subject == subject && c.Topology == t && c.Work == work })
	if i < 0 {
		return nil
	}
	return r.Cells[i]
}

// Add adds the cells of another run. It has to be of the same commit and machine and as long, and
// must not have measured anything that r has: only what one run measured can be compared.
func (r *Report) Add(other *Report) error {
	run := func(r *Report) string {
		return fmt.Sprintf("%s on %v, %d rounds of %g s", r.Commit, r.Machine, r.Rounds, r.Seconds)
	}
	if run(r) != run(other) {
		return fmt.Errorf("the runs differ: %s, and %s", run(r), run(other))
	}
	for _, c := range other.Cells {
		if r.measured(c.Topology, c.Work) {
			return fmt.Errorf("both runs have %s, %s", c.Work, c.Topology)
		}
	}
	r.Cells = append(r.Cells, other.Cells...)
	return nil
}

// measured reports whether any subject was measured with a work.
func (r *Report) measured(t rig.Topology, work string) bool {
	return slices.ContainsFunc(r.Cells, func(c *Cell) bool { return c.Topology == t && c.Work == work })
}

// Subjects returns the names of the subjects, in the order of the cells.
func (r *Report) Subjects() []string {
	var out []string
	for _, c := range r.Cells {
		if !slices.Contains(out, c.Subject) {
			out = append(out, c.Subject)
		}
	}
	return out
}

// Write writes the report as JSON, its tables as Markdown and its plots into
// dir.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	// One line per cell. With indentation each histogram would take thousands.
	lines := bytes.ReplaceAll(text, []byte(`,{"Subject":`), []byte(",\n{\"Subject\":"))
	files := map[string]string{"results.json": string(lines) + "\n", "results.md": r.Markdown()}
	for name, chart := range r.Charts() {
		files[name+".svg"] = chart.SVG()
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	return nil
}

// Read reads the JSON of a report.
func Read(path string) (*Report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return &r, nil
}
