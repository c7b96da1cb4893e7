// Package check runs named checks and prints them in Linkerd's style: a category,
// dashes, and a line for each check with √, ‼ or ×. A failed check includes a hint
// for the user.
package check

import (
	"context"
	"errors"
	"strings"
)

// Probe is one check. Run returns nil for success, a Warn error for a warning, and
// any other error for a failure.
type Probe struct {
	Name string // the statement that holds when it passes: "kernel supports sk_lookup"
	Run  func(ctx context.Context) error
	Hint string // what the user should do when it fails; an error's own hint (see Hinted) replaces it
	// A Fatal probe ends the run when it fails, because the later probes would fail
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

// Lines joins texts into one error with a line for each. It returns nil for none.
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

// Hinted adds a hint for the user to err. It is for cases where the probe's Hint is
// too general.
func Hinted(err error, hint string) error { return hinted{err, hint} }

// Outcome is the result of a check, in Linkerd's words.
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

// Run runs the categories in order. It passes each result to progress, which may be
// nil, as soon as the result is known.
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
