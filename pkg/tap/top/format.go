package top

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Titles are the headings of the columns, the same as Linkerd's.
var Titles = [NumColumns]string{
	"Source", "Destination", "Method", "Path", "Count", "Best", "Worst", "Last", "Success Rate",
}

// names are the columns' names on the command line.
var names = [NumColumns]string{
	"source", "destination", "method", "path", "count", "best", "worst", "last", "success",
}

// ParseOrder parses the name of a column, such as count or success. A "-" before
// it reverses the order.
func ParseOrder(text string) (Order, error) {
	name, reverse := strings.CutPrefix(text, "-")
	for c, n := range names {
		if n == name {
			return Order{By: Column(c), Reverse: reverse}, nil
		}
	}
	return Order{}, fmt.Errorf("sort by %q: use one of %s", text, strings.Join(names[:], ", "))
}

// Cells returns the row as text, one cell for each column.
func (r *Row) Cells() [NumColumns]string {
	best, worst, last, rate := "-", "-", "-", "-"
	if r.Last > 0 {
		best, worst, last = FormatDuration(r.Best), FormatDuration(r.Worst), FormatDuration(r.Last)
	}
	if part, ok := r.SuccessRate(); ok {
		rate = strconv.FormatFloat(100*part, 'f', 2, 64) + "%"
	}
	return [NumColumns]string{
		r.Source, r.Destination, r.Method, r.Path, strconv.FormatUint(r.Count(), 10), best, worst, last, rate,
	}
}

// FormatDuration rounds d to its largest unit of µs, ms and s: 250µs, 13ms, 2s.
func FormatDuration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

const columnGap = "  "

// Lines returns the heading and one line for each of rows, in aligned columns: text to the
// left, numbers to the right. mark is appended to the heading of column by.
func (t *Table) Lines(rows []Row, by Column, mark string) []string {
	head := Titles
	if t.ByRoute {
		head[Path] = "Route"
	}
	head[by] += mark
	grid := [][]string{t.shown(head)}
	for i := range rows {
		grid = append(grid, t.shown(rows[i].Cells()))
	}
	return Align(grid, len(t.shown(head))-int(NumColumns-Count))
}

// shown returns the cells of the columns that the table has.
func (t *Table) shown(cells [NumColumns]string) (out []string) {
	for c, cell := range cells {
		if Column(c) == Source && t.hideSources || Column(c) == Method && t.ByRoute {
			continue
		}
		out = append(out, cell)
	}
	return out
}

// Align returns the lines of a table with aligned columns: the first ones, which
// are text, to the left, and the others, which are numbers, to the right.
func Align(grid [][]string, text int) []string {
	var width []int
	for _, cells := range grid {
		width = append(width, make([]int, max(0, len(cells)-len(width)))...)
		for c, cell := range cells {
			width[c] = max(width[c], utf8.RuneCountInString(cell))
		}
	}
	lines := make([]string, len(grid))
	for i, cells := range grid {
		var b strings.Builder
		for c, cell := range cells {
			pad := strings.Repeat(" ", width[c]-utf8.RuneCountInString(cell))
			if c > 0 {
				b.WriteString(columnGap)
			}
			if c < text {
				b.WriteString(cell + pad)
			} else {
				b.WriteString(pad + cell)
			}
		}
		lines[i] = b.String()
	}
	return lines
}

// WriteTable writes the table as text.
func (t *Table) WriteTable(w io.Writer, order Order) error {
	for _, line := range t.Lines(t.Rows(order), order.By, "") {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}

type jsonRow struct {
	Source      string            `json:"source,omitempty"`
	Destination string            `json:"destination"`
	Method      string            `json:"method"`
	Path        string            `json:"path"`
	Route       string            `json:"route,omitempty"` // and its rule, instead of method and path
	Count       uint64            `json:"count"`
	BestMS      float64           `json:"bestMs"`
	WorstMS     float64           `json:"worstMs"`
	LastMS      float64           `json:"lastMs"`
	Successes   uint64            `json:"successes"`
	Failures    uint64            `json:"failures"`
	SuccessRate *float64          `json:"successRate"` // 0 to 1; null until something has ended
	Reasons     map[string]uint64 `json:"reasons,omitempty"`
}

// WriteJSON writes {"rows": […], "lostEvents": n, "evictedRows": n}. Times are in
// milliseconds.
func (t *Table) WriteJSON(w io.Writer, order Order) error {
	rows := []jsonRow{}
	for _, r := range t.Rows(order) {
		row := jsonRow{
			Source: r.Source, Destination: r.Destination, Method: r.Method, Path: r.Path, Count: r.Count(),
			BestMS: millis(r.Best), WorstMS: millis(r.Worst), LastMS: millis(r.Last),
			Successes: r.Successes, Failures: r.Failures, Reasons: r.Reasons,
		}
		if t.ByRoute {
			row.Path, row.Route = "", r.Path
		}
		if rate, ok := r.SuccessRate(); ok {
			row.SuccessRate = &rate
		}
		rows = append(rows, row)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{"rows": rows, "lostEvents": t.Lost, "evictedRows": t.Evicted})
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
