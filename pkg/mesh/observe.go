package mesh

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// TraceSampling says which requests are traced. The zero value traces those whose caller
// has decided so.
type TraceSampling struct {
	Off        bool   // none, and trace headers stay as they are
	PerMillion uint32 // and this share of the requests that have no decision of a caller
}

const (
	sampleOff    = "off"
	sampleParent = "parent"
)

// ParseTraceSampling parses "off", "parent" or a percentage, such as "5%" or "0.1%".
func ParseTraceSampling(s string) (TraceSampling, error) {
	switch s {
	case sampleOff:
		return TraceSampling{Off: true}, nil
	case sampleParent:
		return TraceSampling{}, nil
	}
	number, ok := strings.CutSuffix(s, "%")
	percent, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(percent >= 0 && percent <= 100) {
		return TraceSampling{}, fmt.Errorf("%q is neither %s nor %s nor a percentage, such as 5%% or 0.1%%", s, sampleOff, sampleParent)
	}
	return TraceSampling{PerMillion: uint32(math.Round(percent * 10_000))}, nil
}

// String returns s as ParseTraceSampling reads it.
func (s TraceSampling) String() string {
	switch {
	case s.Off:
		return sampleOff
	case s.PerMillion == 0:
		return sampleParent
	}
	return strconv.FormatFloat(float64(s.PerMillion)/10_000, 'f', -1, 64) + "%"
}

// AccessLog is the format of the log of the requests to a workload.
type AccessLog uint8

const (
	AccessLogNone AccessLog = iota
	AccessLogApache
	AccessLogJSON
)

// String returns the format as AnnotationAccessLog writes it.
func (a AccessLog) String() string {
	return [...]string{"none", "apache", "json"}[a]
}

// ParseAccessLog parses the value of AnnotationAccessLog.
func ParseAccessLog(s string) (AccessLog, error) {
	for a := AccessLogNone; a <= AccessLogJSON; a++ {
		if s == a.String() {
			return a, nil
		}
	}
	return AccessLogNone, fmt.Errorf("%q is neither apache nor json nor none", s)
}
