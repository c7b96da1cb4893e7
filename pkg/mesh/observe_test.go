package mesh

import (
	"strings"
	"testing"
)

func TestParseTraceSampling(t *testing.T) {
	for in, want := range map[string]TraceSampling{
		"off":     {Off: true},
		"parent":  {},
		"0%":      {},
		"100%":    {PerMillion: 1_000_000},
		"5%":      {PerMillion: 50_000},
		"0.1%":    {PerMillion: 1000},
		"0.0001%": {PerMillion: 1},
	} {
		got, err := ParseTraceSampling(in)
		if got != want || err != nil {
			t.Errorf("ParseTraceSampling(%q) = %+v, %v, want %+v", in, got, err, want)
		}
		if back, err := ParseTraceSampling(got.String()); back != got || err != nil {
			t.Errorf("%q is written as %q, which is read as %+v, %v, want %+v", in, got, back, err, got)
		}
	}
	for _, in := range []string{"", "on", "5", "-1%", "101%", "NaN%", "Inf%", "%", "5 %", "OFF", "1e3%"} {
		if got, err := ParseTraceSampling(in); err == nil || !strings.Contains(err.Error(), in) {
			t.Errorf("ParseTraceSampling(%q) = %+v, %v, want an error that names it", in, got, err)
		}
	}
}

func TestParseAccessLog(t *testing.T) {
	for _, want := range []AccessLog{AccessLogNone, AccessLogApache, AccessLogJSON} {
		if got, err := ParseAccessLog(want.String()); got != want || err != nil {
			t.Errorf("ParseAccessLog(%q) = %v, %v", want, got, err)
		}
	}
	if got, err := ParseAccessLog("nginx"); err == nil {
		t.Errorf("ParseAccessLog(nginx) = %v, want an error", got)
	}
}
