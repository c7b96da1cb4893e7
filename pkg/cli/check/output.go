package check

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/underlane/underlane/pkg/cli"
)

// Output is the flag --output of a check command: table, json or short. short is a
// table with only the warnings and failures.
type Output struct{ format string }

// AddFlag defines the flag on f.
func (o *Output) AddFlag(f *pflag.FlagSet) {
	f.StringVarP(&o.format, "output", "o", "table", "table, json or short (only what is wrong)")
}

// IsTable reports whether the results are printed for a user while they arrive, and
// not for a program that reads them.
func (o *Output) IsTable() bool { return o.format == "table" }

// Run runs the categories and writes their results to out. It returns cli.ErrSilent
// when a check failed, because out already reports that. Any other error concerns
// the flag or out.
func (o *Output) Run(ctx context.Context, out io.Writer, categories []Category) error {
	var report Report
	switch o.format {
	case "json":
		report = Run(ctx, categories, nil)
		if err := report.WriteJSON(out); err != nil {
			return fmt.Errorf("write the results: %w", err)
		}
	case "table", "short":
		p := &Printer{Out: out, OnlyBad: o.format == "short"}
		report = Run(ctx, categories, p.Progress)
		p.Finish(report)
	default:
		return fmt.Errorf("output format %q: use table, json or short", o.format)
	}
	if !report.Success {
		return cli.ErrSilent
	}
	return nil
}
