package selfcheck

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Write prints results as a table and reports whether all are good.
func Write(w io.Writer, results []Result) (good bool) {
	good = len(results) > 0
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\tCHECK\tSAW")
	for _, r := range results {
		mark, saw := "√", r.Saw
		if r.Err != nil {
			mark, saw, good = "×", r.Err.Error(), false
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", mark, r.Check, saw)
	}
	table.Flush()
	return good
}
