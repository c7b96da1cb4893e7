package selfcheck

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/underlane/underlane/test/demo/catalog"
	"github.com/underlane/underlane/test/demo/web"
)

// TopRow has the fields of a row of `agent top --once -o json` that the check uses.
type TopRow struct {
	Source      string   `json:"source"`
	Destination string   `json:"destination"`
	Path        string   `json:"path"`
	Count       int      `json:"count"`
	SuccessRate *float64 `json:"successRate"` // null until something has ended
}

// ParseTop parses the output of `agent top --once -o json`.
func ParseTop(output []byte) ([]TopRow, error) {
	var table struct {
		Rows []TopRow `json:"rows"`
	}
	if err := json.Unmarshal(output, &table); err != nil {
		return nil, fmt.Errorf("read top: %w in %.100q", err, output)
	}
	return table.Rows, nil
}

// CheckFailingVote checks that the rows of top are enough to find the fault: only the
// doughnut's vote has the lowest success rate.
func CheckFailingVote(rows []TopRow) (saw string, err error) {
	rows = slices.DeleteFunc(slices.Clone(rows), func(r TopRow) bool { return r.SuccessRate == nil || r.Count == 0 })
	if len(rows) == 0 {
		return "", fmt.Errorf("top showed no row: %w", errNotSeen)
	}
	slices.SortStableFunc(rows, func(a, b TopRow) int { return cmp.Compare(*a.SuccessRate, *b.SuccessRate) })
	if !slices.ContainsFunc(rows, func(r TopRow) bool { return r.Path == web.VotePath(catalog.Doughnut) }) {
		return "", fmt.Errorf("top showed %d rows, and no vote for the doughnut: %w", len(rows), errNotSeen)
	}
	worst, want := *rows[0].SuccessRate, web.VotePath(catalog.Doughnut)
	lowest := slices.DeleteFunc(slices.Clone(rows), func(r TopRow) bool { return *r.SuccessRate > worst })
	if r := lowest[0]; r.Path == want && len(lowest) == 1 {
		return fmt.Sprintf("%s: success rate %.0f %% of %d calls, the lowest of %d rows", want[1:], 100*worst, r.Count, len(rows)), nil
	}
	var got []string
	for _, r := range lowest {
		got = append(got, fmt.Sprintf("%d calls of %s (%s → %s)", r.Count, r.Path, r.Source, r.Destination))
	}
	return "", fmt.Errorf("the lowest success rate, %.0f %%, is that of %s; want that of %s alone", 100*worst, strings.Join(got, ", "), want)
}
