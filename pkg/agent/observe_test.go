package agent

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// TestObserveConfig says what the flags of tracing and access logs make, and that wrong
// values are refused with the flag's name.
func TestObserveConfig(t *testing.T) {
	a := &components{store: state.NewStore("node-1"), log: slog.New(slog.DiscardHandler)}
	const receiver = "grpc://collector:4317"
	for name, tc := range map[string]struct {
		config  ObserveConfig
		traced  *mesh.TraceSampling
		sinks   int
		refused string
	}{
		"nothing":           {ObserveConfig{}, nil, 1, ""},
		"a rate alone":      {ObserveConfig{TraceSampling: "5%"}, nil, 1, ""},
		"a receiver":        {ObserveConfig{OTLPEndpoint: receiver}, &mesh.TraceSampling{}, 2, ""},
		"both":              {ObserveConfig{OTLPEndpoint: receiver, TraceSampling: "5%", AccessLogTo: toOTLP}, &mesh.TraceSampling{PerMillion: 50_000}, 2, ""},
		"bad rate":          {ObserveConfig{TraceSampling: "often"}, nil, 0, "--trace-sampling"},
		"bad receiver":      {ObserveConfig{OTLPEndpoint: "collector:4317"}, nil, 0, "--otlp-endpoint"},
		"no such authority": {ObserveConfig{OTLPEndpoint: "https://collector", OTLPCA: "/nowhere"}, nil, 0, "--otlp-endpoint"},
		"bad log":           {ObserveConfig{AccessLogTo: "syslog"}, nil, 0, "--access-log-to"},
		"log to nowhere":    {ObserveConfig{AccessLogTo: toOTLP}, nil, 0, "--otlp-endpoint"},
	} {
		o, err := a.newObserving(&tc.config)
		if tc.refused != "" {
			if err == nil || !strings.Contains(err.Error(), tc.refused) {
				t.Errorf("%s: %v, want an error that names %s", name, err, tc.refused)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if (o.sampling == nil) != (tc.traced == nil) || o.sampling != nil && *o.sampling != *tc.traced {
			t.Errorf("%s: the sampling is %v, want %v", name, o.sampling, tc.traced)
		}
		if got := len(o.sinks()); got != tc.sinks {
			t.Errorf("%s: %d sinks, want %d", name, got, tc.sinks)
		}
		if got := o.counts(); got.AccessLogDropped == nil || (got.OTLP != nil) != (tc.traced != nil) {
			t.Errorf("%s: counts %+v", name, got)
		}
	}
}
