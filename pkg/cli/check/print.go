package check

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

var marks = map[Outcome]string{Success: "√", Warning: "‼", Failure: "×"}

// Printer prints results as they arrive. Its Progress method is an argument for
// Run.
type Printer struct {
	Out      io.Writer
	OnlyBad  bool // Linkerd's -o short: omits successes
	category string
}

// Progress prints one result. It prints the title before the first result of a
// category.
func (p *Printer) Progress(category string, r Result) {
	if p.OnlyBad && r.Result == Success {
		return
	}
	if category != p.category {
		if p.category != "" {
			fmt.Fprintln(p.Out)
		}
		p.category = category
		fmt.Fprintf(p.Out, "%s\n%s\n", category, strings.Repeat("-", utf8.RuneCountInString(category)))
	}
	fmt.Fprintf(p.Out, "%s %s\n", marks[r.Result], r.Description)
	indent(p.Out, r.Error)
	indent(p.Out, r.Hint)
}

func indent(w io.Writer, text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintf(w, "    %s\n", strings.TrimRight(line, "\n"))
	}
}

// Finish prints the last line.
func (p *Printer) Finish(report Report) {
	if p.category != "" {
		fmt.Fprintln(p.Out)
	}
	outcome := Success
	if !report.Success {
		outcome = Failure
	}
	fmt.Fprintln(p.Out, "Status check results are", marks[outcome])
}

// WriteJSON writes the report with Linkerd's keys.
func (report Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(report)
}
