package translate

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/underlane/underlane/pkg/limit"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
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

// unreadRate is what settingsOf returns for an annotation that is not understood. It does not
// leave the translation: unreadLimits puts a limit in its place.
var unreadRate = &mesh.RateLimit{}

// unreadLimits removes the rates from s that are not understood, and returns limits that let in
// no request for them. A limit protects its server: one that is silently without effect would be
// found out by an overload.
func unreadLimits(s *mesh.Settings) (out []authz.Limit) {
	for _, of := range []struct {
		name string
		rate **mesh.RateLimit
	}{{mesh.AnnotationRateLimit, &s.RateLimit}, {mesh.AnnotationClientRateLimit, &s.ClientRateLimit}} {
		if *of.rate != nil && **of.rate == *unreadRate {
			*of.rate = nil
			out = append(out, authz.Limit{Policy: "annotation " + of.name, Name: "not-understood", Number: 1})
		}
	}
	return out
}
