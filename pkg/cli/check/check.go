// Package check runs named checks and prints them in Linkerd's style: a
// category, dashes, and a line for each check with √, ‼ or ×. A check that
// fails says what to do about it.
package check

import (
	"context"
	"errors"
	"strings"
)

// Probe is one check. Run returns nil when all is well, a Warn error when it
// works but wants attention, any other error when it is broken.
type Probe struct {
	Name string // what is true when it passes: "kernel supports sk_lookup"
	Run  func(ctx context.Context) error
	Hint string // what to do when it fails; an error's own hint (see Hinted) goes before it
	// Fatal probes end the run when they fail: what follows could only fail
	// for the same cause.
	Fatal bool
}

// Category is a titled group of probes that run in order.
type Category struct {
	Name   string // lower case with hyphens, as in Linkerd: "kernel-features"
	Probes []Probe
}

type warning struct{ err error }

func (w warning) Error() string { return w.err.Error() }
func (w warning) Unwrap() error { return w.err }

// Warn makes err a warning: the check is reported as ‼ and does not fail the run.
// Warn(nil) is nil.
func Warn(err error) error {
	if err == nil {
		return nil
	}
	return warning{err}
}

// Lines makes one error of what is wrong, a line for each; nil for nothing.
func Lines(bad []string) error {
	if len(bad) == 0 {
		return nil
	}
	return errors.New(strings.Join(bad, "\n"))
}

type hinted struct {
	err  error
	hint string
}

func (h hinted) Error() string { return h.err.Error() }
func (h hinted) Unwrap() error { return h.err }

// Hinted attaches to err what to do about it, where the probe's Hint is too
// general.
func Hinted(err error, hint string) error { return hinted{err, hint} }

// Outcome is how a check ended, in Linkerd's words.
type Outcome string

// The outcomes.
const (
	Success Outcome = "success"
	Warning Outcome = "warning"
	Failure Outcome = "error"
)

// Result is one check that ran.
type Result struct {
	Description string  `json:"description"`
	Hint        string  `json:"hint,omitempty"`
	Error       string  `json:"error,omitempty"`
	Result      Outcome `json:"result"`
}

// CategoryResult is the results of one category.
type CategoryResult struct {
	Name   string   `json:"categoryName"`
	Checks []Result `json:"checks"`
}

// Report is the results of a run; Success is false when any check failed.
type Report struct {
	Success    bool             `json:"success"`
	Categories []CategoryResult `json:"categories"`
}

// Run runs the categories in order and tells each result to progress (which
// may be nil) as it comes.
func Run(ctx context.Context, categories []Category, progress func(category string, r Result)) Report {
	report := Report{Success: true, Categories: []CategoryResult{}}
	for _, c := range categories {
		results := CategoryResult{Name: c.Name, Checks: []Result{}}
		for _, p := range c.Probes {
			r := runOne(ctx, p)
			results.Checks = append(results.Checks, r)
			report.Success = report.Success && r.Result != Failure
			if progress != nil {
				progress(c.Name, r)
			}
			if r.Result == Failure && p.Fatal {
				report.Categories = append(report.Categories, results)
				return report
			}
		}
		report.Categories = append(report.Categories, results)
	}
	return report
}

func runOne(ctx context.Context, p Probe) Result {
	err := p.Run(ctx)
	if err == nil {
		return Result{Description: p.Name, Result: Success}
	}
	r := Result{Description: p.Name, Result: Failure, Error: err.Error(), Hint: p.Hint}
	if errors.As(err, &warning{}) {
		r.Result = Warning
	}
	var h hinted
	if errors.As(err, &h) {
		r.Hint = h.hint
	}
	return r
}
