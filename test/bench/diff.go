package bench

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/underlane/underlane/test/bench/report"
	"github.com/underlane/underlane/test/bench/rig"
	"github.com/underlane/underlane/test/bench/stats"
	"github.com/underlane/underlane/test/bench/work"
)

// versions are the names of what is compared: all others with the first.
const versions = "ABCDEFGH"

func diffCommand(ctx context.Context, args []string) (err error) {
	s, err := parse("diff", args)
	if err != nil {
		return err
	}
	if len(s.rest) < 2 || len(s.rest) > len(versions) {
		return fmt.Errorf(`diff wants 2 to %d commits; "." is the working tree, and a directory may have the programs of one`, len(versions))
	}
	dir, err := os.MkdirTemp("", "bench-diff")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var builds []rig.Build
	var names, commits []string
	for i, commit := range s.rest {
		name := versions[i : i+1]
		names, commits = append(names, name), append(commits, fmt.Sprintf("%s (%s)", commit, name))
		bin := filepath.Join(dir, name)
		logf("building %s: %s", name, commit)
		if err := build(ctx, commit, bin); err != nil {
			return err
		}
		builds = append(builds, rig.Build{Name: name, Bin: bin})
	}
	r, err := s.measure(ctx, names[0], builds, names)
	if err != nil {
		return err
	}
	r.Commit = strings.Join(commits, ", ")
	var b strings.Builder
	for _, newer := range names[1:] {
		b.WriteString(Compare(r, names[0], newer))
	}
	return s.show(r, b.String())
}

// build builds the agent and the controller of a commit into bin. If commit is a
// directory that has them already, it uses that.
func build(ctx context.Context, commit, bin string) error {
	run := func(dir, name string, args ...string) error {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
		return nil
	}
	if _, err := os.Stat(filepath.Join(commit, "agent")); err == nil && commit != "." {
		return linkAbs(commit, bin)
	}
	tree := "."
	if commit != "." {
		tree = bin + ".tree"
		// Copy the files instead of adding a worktree, to leave the repository as it is.
		if err := os.MkdirAll(tree, 0o755); err != nil {
			return err
		}
		defer os.RemoveAll(tree)
		if err := run(".", "sh", "-c", `git archive "$1" | tar -x -C "$2"`, "sh", commit, tree); err != nil {
			return err
		}
	}
	return run(tree, "go", "build", "-trimpath", "-o", bin+"/", "./cmd/agent", "./cmd/controller")
}

func linkAbs(to, from string) error {
	abs, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	return os.Symlink(abs, from)
}

// describe returns the name of the checked-out version.
func describe(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--exclude", "*").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// Compare returns a report of two versions as text, with the ratios of the newer to
// the older round by round.
func Compare(r *report.Report, older, newer string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s / %s of %s: medians of the ratios of %d rounds, and the lowest and highest of them.\n", newer, older, r.Commit, r.Rounds)
	for _, t := range rig.Topologies {
		for _, w := range work.Works {
			x, y := r.Find(older, t, w.Name), r.Find(newer, t, w.Name)
			if x == nil || y == nil {
				continue
			}
			fmt.Fprintf(&b, "\n%s, %s\n", w.Title, t)
			for _, f := range []struct {
				name   string
				of     func(*report.Cell) stats.Sample
				lessIs bool
			}{
				{"rate", func(c *report.Cell) stats.Sample { return c.Rate }, false},
				{"CPU", func(c *report.Cell) stats.Sample { return c.CPU }, true},
				{"switches", func(c *report.Cell) stats.Sample { return c.Switches }, true},
				{"p50", func(c *report.Cell) stats.Sample { return c.P50 }, true},
				{"p99", func(c *report.Cell) stats.Sample { return c.P99 }, true},
				{"CPU paced", func(c *report.Cell) stats.Sample { return c.PacedCPU }, true},
				{"RSS", func(c *report.Cell) stats.Sample { return c.RSS }, true},
			} {
				ratio := f.of(y).Ratio(f.of(x))
				if m := ratio.Median(); !math.IsNaN(m) {
					low, high := ratio.Range()
					fmt.Fprintf(&b, "  %-10s %.3f  (%.3f to %.3f)  %s → %s%s\n", f.name, m, low, high,
						value(f.of(x).Median()), value(f.of(y).Median()), verdict(ratio, f.lessIs))
				}
			}
			if before, after := x.SystemCalls(), y.SystemCalls(); !math.IsNaN(before) && !math.IsNaN(after) {
				fmt.Fprintf(&b, "  %-10s %.3f  %.2f → %.2f\n", "syscalls", after/before, before, after)
				fmt.Fprintf(&b, "    %s: %s\n    %s: %s\n", older, x.Counts, newer, y.Counts)
			}
			if x.Counts != nil && y.Counts != nil && x.Counts.Allocs >= 0 && y.Counts.Allocs >= 0 {
				fmt.Fprintf(&b, "  %-10s %.2f → %.2f\n", "allocs", x.Counts.Allocs, y.Counts.Allocs)
			}
		}
	}
	return b.String()
}

func verdict(ratio stats.Sample, lessIsBetter bool) string {
	inverse := make(stats.Sample, len(ratio))
	for i, v := range ratio {
		inverse[i] = 1 / v
	}
	if !lessIsBetter {
		ratio, inverse = inverse, ratio
	}
	switch {
	case ratio.Worse(0.02):
		return "  WORSE"
	case inverse.Worse(0.02):
		return "  better"
	}
	return ""
}

func value(v float64) string {
	if v >= 1e5 {
		return fmt.Sprintf("%.3gM", v/1e6)
	}
	return fmt.Sprintf("%.4g", v)
}
