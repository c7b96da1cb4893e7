package translate

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/underlane/underlane/pkg/limit"
	"github.com/underlane/underlane/pkg/mesh"
)

var rateForm = regexp.MustCompile(`^([0-9]{1,9})/(ms|s|m|h)(?:\s+burst=([0-9]{1,9}))?$`)

// parseRateLimit parses "100/s" or "100/s burst=200"; "none" is nil. Without a
// burst, the number for one period may come at once.
func parseRateLimit(s string) (*mesh.RateLimit, error) {
	s = strings.TrimSpace(s)
	if s == "none" {
		return nil, nil
	}
	m := rateForm.FindStringSubmatch(s)
	if m == nil {
		return nil, fmt.Errorf(`%q is not a rate such as "100/s" or "100/s burst=200", with ms, s, m or h`, s)
	}
	out := &mesh.RateLimit{Period: durationUnits[m[2]]}
	out.Count, _ = strconv.Atoi(m[1]) // nine digits always fit
	out.Burst = out.Count
	if m[3] != "" {
		out.Burst, _ = strconv.Atoi(m[3])
	}
	if _, err := limit.NewRate(out.Count, out.Period, out.Burst); err != nil {
		return nil, err
	}
	return out, nil
}
