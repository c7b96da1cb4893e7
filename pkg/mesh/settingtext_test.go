package mesh

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSettingTexts(t *testing.T) {
	for name, tc := range map[string]struct {
		w    Workload
		want []SettingText
	}{
		"not in the mesh": {Workload{Settings: Settings{FailClosed: true}}, nil},
		"none":            {Workload{Meshed: true}, []SettingText{{"policy", "allow"}, {"fail-mode", "open"}}},
		"policies":        {Workload{Meshed: true, Authorized: true}, []SettingText{{"policy", "by authorization policies"}, {"fail-mode", "open"}}},
		"all": {
			Workload{Meshed: true, NetworkPolicy: true, Settings: Settings{
				Policy: PolicyStrict, FailClosed: true, PlaintextFallback: true,
				SkipOutboundPorts: []PortRange{{25, 25}, {9000, 9100}}, SkipInboundPorts: []PortRange{{22, 22}}, OpaquePorts: []PortRange{{3306, 3306}},
				RateLimit: &RateLimit{100, time.Second, 200}, ClientRateLimit: &RateLimit{5, time.Minute, 5},
				AccessLog: AccessLogJSON, Ingress: true, TraceSampling: &TraceSampling{PerMillion: 50_000},
			}},
			[]SettingText{
				{"policy", "strict"},
				{"fail-mode", "closed"},
				{"plaintext-fallback", "allowed"},
				{"skip-outbound-ports", "25,9000-9100"},
				{"skip-inbound-ports", "22"},
				{"opaque-ports", "3306"},
				{"rate-limit", "100 in 1s, burst 200"},
				{"rate-limit-per-client", "5 in 1m0s, burst 5"},
				{"access-log", "json"},
				{"trace-sampling", "5%"},
				{"ingress", "enabled"},
				{"same-node", "wire"},
			},
		},
	} {
		if diff := cmp.Diff(tc.want, tc.w.SettingTexts()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
