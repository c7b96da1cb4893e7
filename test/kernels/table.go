package kernels

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// The table of docs/support.md is between these lines.
const (
	tableBegin = "<!-- This table is written by make test-kernels. -->\n"
	tableEnd   = "<!-- The end of what make test-kernels writes. -->\n"
	tableHead  = "| Linux | Processor | Debian's kernel | Result | Without |\n| --- | --- | --- | --- | --- |\n"
)

// row is a kernel in the table.
type row struct {
	line, arch, release, result, without string
}

// newRow returns the row of a kernel whose tests have passed.
func (o *options) newRow(release string, v verdict) row {
	r := row{line: lineOf(release), arch: o.arch, release: release, result: fmt.Sprintf("%d tests passed", v.passed), without: "–"}
	switch {
	case v.refused:
		r.result = "the agent does not start, and says why"
	case o.load:
		r.result = "every program loads"
	case o.short:
		r.result += " (short form)"
	}
	if len(v.without) > 0 {
		r.without = strings.Join(v.without, "; ")
	}
	return r
}

func (r row) String() string {
	return fmt.Sprintf("| %s | %s | %s | %s | %s |\n", r.line, r.arch, r.release, r.result, r.without)
}

// update puts rows into the table of a page. Rows of other kernels stay.
func update(page string, rows []row) (string, error) {
	before, rest, ok := strings.Cut(page, tableBegin)
	table, after, ended := strings.Cut(rest, tableEnd)
	if !ok || !ended {
		return "", errors.New("the page has no place for the table of kernels")
	}
	var all []row
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		r := row{cells[0], cells[1], cells[2], cells[3], cells[4]}
		if number(r.line) > 0 && !slices.ContainsFunc(rows, func(n row) bool { return n.line == r.line && n.arch == r.arch }) {
			all = append(all, r)
		}
	}
	all = append(all, rows...)
	slices.SortStableFunc(all, func(a, b row) int {
		if a.arch != b.arch {
			return strings.Compare(a.arch, b.arch)
		}
		return number(a.line) - number(b.line)
	})
	var text strings.Builder
	text.WriteString(before + tableBegin + tableHead)
	for _, r := range all {
		text.WriteString(r.String())
	}
	text.WriteString(tableEnd + after)
	return text.String(), nil
}

// number orders lines: 5010 of 5.10. It is zero for what is none.
func number(line string) int {
	major, minor, _ := strings.Cut(line, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	if errA != nil || errB != nil {
		return 0
	}
	return a*1000 + b
}

func updateFile(file string, rows []row) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text, err := update(string(page), rows)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(text), 0o644)
}
