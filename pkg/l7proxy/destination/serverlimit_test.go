package destination

import (
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// TestServerLimit counts the requests that pass at once, of each client.
func TestServerLimit(t *testing.T) {
	web, job, db := account("web"), account("job"), account("db")
	for name, tc := range map[string]struct {
		of   authz.RateLimit
		want map[mesh.Identity]int // of 10 requests of each client, one after the other
		all  int
	}{
		"total":              {authz.RateLimit{Total: 7}, nil, 7},
		"identity":           {authz.RateLimit{Identity: 3}, map[mesh.Identity]int{web: 3, job: 3, {}: 3}, 9},
		"identity and total": {authz.RateLimit{Total: 8, Identity: 3}, nil, 8},
		"an override":        {authz.RateLimit{Identity: 2, Overrides: []authz.RateOverride{{RequestsPerSecond: 5, Clients: []mesh.Identity{web}}}}, map[mesh.Identity]int{web: 5, job: 2, {}: 2}, 9},
		"an override that clients share": {
			authz.RateLimit{Overrides: []authz.RateOverride{{RequestsPerSecond: 5, Clients: []mesh.Identity{web, job}}}}, map[mesh.Identity]int{{}: 10}, 15,
		},
		"the first override":       {authz.RateLimit{Overrides: []authz.RateOverride{{RequestsPerSecond: 4, Clients: []mesh.Identity{web}}, {RequestsPerSecond: 1, Clients: []mesh.Identity{web, db}}}}, map[mesh.Identity]int{web: 4}, 24},
		"an override of none":      {authz.RateLimit{Identity: 1, Overrides: []authz.RateOverride{{Clients: []mesh.Identity{web}}}}, map[mesh.Identity]int{web: 10}, 12},
		"more than can be counted": {authz.RateLimit{Total: 1<<32 - 1}, nil, 30},
	} {
		t.Run(name, func(t *testing.T) {
			var s serverLimits
			tc.of.Policy = "p"
			got, all := map[mesh.Identity]int{}, 0
			for range 10 {
				for _, id := range []mesh.Identity{web, job, {}} {
					again := tc.of // the limit of another delta: the same one
					if s.admit("pod", &again, id, time.Hour) == nil {
						got[id]++
						all++
					}
				}
			}
			for id, n := range tc.want {
				if got[id] != n {
					t.Errorf("%s: %d requests of %q passed, want %d", name, got[id], id, n)
				}
			}
			if all != tc.all {
				t.Errorf("%s: %d passed, want %d", name, all, tc.all)
			}
			s.forget(func(string) *authz.Workload { return nil })
			if len(s.by) != 0 {
				t.Errorf("%s: the limit of a pod without policies is kept", name)
			}
		})
	}
}
