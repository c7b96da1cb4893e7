package translate

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// annotations reads annotations one by one. It collects their problems, so that all
// are reported and the caller applies either all values or none.
type annotations struct {
	all  map[string]string
	read map[string]bool
	errs []string
}

func (a *annotations) get(name string) (string, bool) {
	if a.read == nil {
		a.read = map[string]bool{}
	}
	a.read[name] = true
	v, ok := a.all[name]
	return strings.TrimSpace(v), ok
}

func (a *annotations) wrong(name, format string, args ...any) {
	a.errs = append(a.errs, "annotation "+name+": "+fmt.Sprintf(format, args...))
}

// number reads a number from 0 to limit.
func (a *annotations) number(name string, absent, limit int) int {
	v, ok := a.get(name)
	if !ok {
		return absent
	}
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n > uint64(limit) {
		a.wrong(name, "%q is not a number from 0 to %d", v, limit)
		return absent
	}
	return int(n)
}

// ratio reads a number from 0 to limit, which may have decimals.
func (a *annotations) ratio(name string, absent, limit float64) float64 {
	v, ok := a.get(name)
	if !ok {
		return absent
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > limit {
		a.wrong(name, "%q is not a number from 0 to %v", v, limit)
		return absent
	}
	return f
}

func (a *annotations) duration(name string, absent time.Duration) time.Duration {
	v, ok := a.get(name)
	if !ok {
		return absent
	}
	d, err := parseDuration(v)
	if err != nil {
		a.wrong(name, "%v", err)
		return absent
	}
	return d
}

// unknown reports the annotations with this prefix that were not read.
func (a *annotations) unknown(prefix string) {
	for name := range a.all {
		if strings.HasPrefix(name, prefix) && !a.read[name] {
			a.wrong(name, "is not known, or has no effect here")
		}
	}
}

// problems returns the problems in the order of the annotations' names.
func (a *annotations) problems() []string {
	slices.Sort(a.errs)
	return a.errs
}

// durationForm is Linkerd's form of a duration: one number and a unit, which may be
// d for days.
var durationForm = regexp.MustCompile(`^([0-9]{1,9})(ms|s|m|h|d)$`)

var durationUnits = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
}

// maxDuration prevents overflows when durations are added.
const maxDuration = 365 * 24 * time.Hour

func parseDuration(s string) (time.Duration, error) {
	m := durationForm.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("%q is not a duration such as 10s or 250ms", s)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	unit := durationUnits[m[2]]
	if err != nil || n > int64(maxDuration/unit) {
		return 0, fmt.Errorf("%q is longer than a year", s)
	}
	return time.Duration(n) * unit, nil
}

// accrualOf reads when a Service's endpoints are ejected. nil stands for the
// default.
func accrualOf(all map[string]string) (*mesh.FailureAccrual, []string) {
	if len(all) == 0 {
		return nil, nil
	}
	a := &annotations{all: all}
	out := mesh.DefaultFailureAccrual
	out.Consecutive = a.number(mesh.AnnotationAccrualMaxFailures, out.Consecutive, math.MaxInt32)
	out.MinPenalty = a.duration(mesh.AnnotationAccrualMinPenalty, out.MinPenalty)
	out.MaxPenalty = a.duration(mesh.AnnotationAccrualMaxPenalty, out.MaxPenalty)
	a.ratio(mesh.AnnotationAccrualJitter, 0, 100)
	mode, given := a.get(mesh.AnnotationAccrual)
	switch {
	case !given:
		a = &annotations{all: all}
	case mode == "unified":
		out.SuccessRate = a.ratio(mesh.AnnotationAccrualSuccessRate, out.SuccessRate, 1)
		out.Window = a.duration(mesh.AnnotationAccrualSuccessWindow, out.Window)
		out.MinRequests = a.number(mesh.AnnotationAccrualSuccessMinRequests, out.MinRequests, 1_000_000)
	case mode == "consecutive":
		out.SuccessRate, out.MinRequests, out.Window = 0, 0, 0
	default:
		a.wrong(mesh.AnnotationAccrual, "%q is neither consecutive nor unified", mode)
	}
	a.unknown("balancer.underlane.io/")
	switch {
	case out.MinPenalty <= 0, out.MaxPenalty < out.MinPenalty:
		a.wrong(mesh.AnnotationAccrualMinPenalty, "penalties from %v to %v", out.MinPenalty, out.MaxPenalty)
	case out.SuccessRate > 0 && (out.Window < 10*time.Millisecond || out.MinRequests < 1):
		a.wrong(mesh.AnnotationAccrualSuccessWindow, "%d requests in %v say nothing: want one at least in 10ms at least", out.MinRequests, out.Window)
	case given && out.Consecutive == 0 && out.SuccessRate == 0:
		a.wrong(mesh.AnnotationAccrual, "neither failures in a row nor a success rate is looked at")
	}
	if !given || len(a.errs) > 0 {
		return nil, a.problems()
	}
	return &out, nil
}

// requestPolicy has the retries and timeouts from annotations.
type requestPolicy struct {
	retry    *mesh.RouteRetry
	timeouts mesh.RouteTimeouts
}

func (p *requestPolicy) empty() bool { return p.retry == nil && p.timeouts == mesh.RouteTimeouts{} }

func requestPolicyOf(all map[string]string) (requestPolicy, []string) {
	var out requestPolicy
	if len(all) == 0 {
		return out, nil
	}
	a := &annotations{all: all}
	out.timeouts.Request = a.duration(mesh.AnnotationTimeoutRequest, 0)
	out.timeouts.BackendRequest = a.duration(mesh.AnnotationRetryTimeout, 0)
	retry := &mesh.RouteRetry{Attempts: a.number(mesh.AnnotationRetryLimit, defaultAttempts, maxAttempts)}
	http, byHTTP := a.get(mesh.AnnotationRetryHTTP)
	grpc, byGRPC := a.get(mesh.AnnotationRetryGRPC)
	_, limited := a.get(mesh.AnnotationRetryLimit)
	if !byHTTP && !byGRPC {
		http, grpc = "5xx", "unavailable"
	}
	if byHTTP || !byGRPC {
		retry.Codes = a.statuses(http)
	}
	if byGRPC || !byHTTP {
		retry.GRPCCodes = a.grpcCodes(grpc)
	}
	if byHTTP || byGRPC || limited || out.timeouts.BackendRequest > 0 {
		out.retry = retry
	}
	if limit := out.timeouts.Request; limit > 0 && out.timeouts.BackendRequest > limit {
		a.wrong(mesh.AnnotationRetryTimeout, "%v is longer than the request may take, %v", out.timeouts.BackendRequest, limit)
	}
	a.unknown("retry.underlane.io/")
	a.unknown("timeout.underlane.io/")
	if len(a.errs) > 0 {
		return requestPolicy{}, a.problems()
	}
	return out, nil
}

// maxAttempts bounds the configurable number of retries, as pkg/retry does.
const maxAttempts = 100

// statuses reads a list such as "5xx,gateway-error,429,500-502".
func (a *annotations) statuses(list string) []uint16 {
	var out []uint16
	for part := range strings.SplitSeq(list, ",") {
		part = strings.ToLower(strings.TrimSpace(part))
		switch part {
		case "5xx":
			part = "500-599"
		case "gateway-error":
			part = "502-504"
		}
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, errTo := strconv.ParseUint(last, 10, 16)
		if err != nil || errTo != nil || from < 400 || to > 599 || from > to {
			a.wrong(mesh.AnnotationRetryHTTP, "%q is none of 5xx, gateway-error, a status from 400 to 599 and a range of those", part)
			return nil
		}
		for code := from; code <= to; code++ {
			out = append(out, uint16(code))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

var grpcConditions = map[string]uint8{
	"cancelled": 1, "deadline-exceeded": 4, "resource-exhausted": 8, "internal": 13, "unavailable": 14,
}

func (a *annotations) grpcCodes(list string) []uint8 {
	var out []uint8
	for part := range strings.SplitSeq(list, ",") {
		code, ok := grpcConditions[strings.ToLower(strings.TrimSpace(part))]
		if !ok {
			a.wrong(mesh.AnnotationRetryGRPC, "%q is none of cancelled, deadline-exceeded, internal, resource-exhausted, unavailable", part)
			return nil
		}
		out = append(out, code)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
