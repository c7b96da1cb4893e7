package routestatus

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/kind"
	"github.com/underlane/underlane/pkg/controller/translate"
)

// TestPolicies: the status of policies says whether they are understood. What other
// controllers have written stays, and a status that is right is not written again.
func TestPolicies(t *testing.T) {
	for name, c := range map[string]struct {
		resource *custom.Resource
		status   string // before
		spec     string
		want     []string // in the status
	}{
		"ours": {
			&custom.Policies, `{"ancestors":[{"ancestorRef":{"name":"x"},"controllerName":"example.com/other","conditions":[]}]}`,
			`{"targetRefs":[{"group":"","kind":"Pod","selector":{}}],"action":"ALLOW","enforcementLevel":"Network"}`,
			[]string{`"controllerName":"example.com/other"`, `"controllerName":"underlane.io/controller"`, `"kind":"Namespace","name":"shop"`, `"reason":"Accepted","status":"True","type":"Accepted"`},
		},
		"ours, not understood": {
			&custom.Policies, `{}`, `{"targetRefs":[{"group":"","kind":"Pod","selector":{}}],"action":"ALLOW","enforcementLevel":"Network","tomorrow":1}`,
			[]string{`spec.tomorrow: is not known`, `"reason":"Invalid","status":"False","type":"Accepted"`},
		},
		"Istio's": {
			&custom.IstioPolicies, `{"conditions":[{"type":"WaypointAccepted","status":"True","lastProbeTime":null,"theirs":[1]}]}`, `{"rules":[{}]}`,
			[]string{`"theirs":[1]`, `"status":"True","type":"underlane.io/Accepted"`, `"observedGeneration":7`},
		},
		"Istio's, not understood": {
			&custom.IstioPeers, ``, `{"mtls":{"mode":"SOMETIMES"}}`,
			[]string{`SOMETIMES`, `"status":"False","type":"underlane.io/Accepted"`},
		},
		"Istio's, of tokens": {
			&custom.IstioRequests, ``, `{"jwtRules":[{"issuer":"i"}]}`,
			[]string{`"type":"underlane.io/Accepted"`},
		},
		"EgressNetwork": {
			&custom.EgressNetworks, `{"conditions":[{"type":"Other","status":"True","theirs":[1]},{"type":"Accepted","status":"False","reason":"Pending","message":"","lastTransitionTime":null}]}`,
			`{"trafficPolicy":"Deny","networks":[{"cidr":"203.0.113.0/24"}]}`,
			[]string{`"theirs":[1]`, `"message":"","reason":"Accepted","status":"True","type":"Accepted"`},
		},
		"HTTPRoute of Linkerd, of a Server": {
			&custom.LinkerdHTTPRoutes, `{"parents":[{"parentRef":{"name":"x"},"controllerName":"linkerd.io/policy-controller","conditions":[]}]}`,
			`{"parentRefs":[{"group":"policy.linkerd.io","kind":"Server","name":"x"}]}`,
			[]string{`"controllerName":"linkerd.io/policy-controller"`, `"controllerName":"underlane.io/controller"`, `Server x does not exist`, `"observedGeneration":7,"reason":"NoMatchingParent","status":"False","type":"Accepted"`},
		},
		"HTTPRoute of Linkerd, of a Service": {
			&custom.LinkerdHTTPRoutes, ``, `{"parentRefs":[{"group":"core","kind":"Service","name":"x","port":80}],"rules":[{"cookies":[]}]}`,
			[]string{`"parentRef":{"group":"core","kind":"Service","name":"x","port":80}`, `there is no Service shop/x`, `"type":"ResolvedRefs"`},
		},
		"HTTPLocalRateLimitPolicy": {
			&custom.LinkerdRateLimits, `{"conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":""}],"targetRef":{"group":"policy.linkerd.io","kind":"Server","name":"before"}}`,
			`{"targetRef":{"group":"policy.linkerd.io","kind":"Server","name":"x"},"total":{"requestsPerSecond":1}}`,
			[]string{`"message":"","reason":"NoMatchingTarget","status":"False","type":"Accepted"`, `"targetRef":{"group":"policy.linkerd.io","kind":"Server","name":"x"}`},
		},
		"EgressNetwork, not understood": {
			&custom.EgressNetworks, ``, `{"trafficPolicy":"Deny","networks":[{"cidr":"203.0.113.0/33"}]}`,
			[]string{`spec.networks[0].cidr`, `everything is refused`, `"reason":"Invalid","status":"False","type":"Accepted"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			egress := c.resource == &custom.EgressNetworks
			if egress {
				f.server.Install(c.resource.Name, true)
			} else {
				f.server.Install(c.resource.Qualified(), true)
			}
			client := f.clients.Of(c.resource.GroupVersions()[0])
			object := fmt.Sprintf(`{"metadata":{"name":"p","namespace":"shop","generation":7},"spec":%s%s}`, c.spec, map[bool]string{true: `,"status":` + c.status}[c.status != ""])
			if err := client.Post().Namespace("shop").Resource(c.resource.Name).Body([]byte(object)).Do(t.Context()).Error(); err != nil {
				t.Fatal(err)
			}
			// read returns the objects as a controller has them, and the status in JSON.
			read := func() (*translate.Objects, string) {
				text, err := client.Get().Namespace("shop").Resource(c.resource.Name).Name("p").DoRaw(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				var p any = &custom.PolicyObject{}
				if egress {
					p = &custom.EgressNetwork{}
				}
				if err := json.Unmarshal(text, p); err != nil {
					t.Fatal(err)
				}
				var fields struct{ Status any }
				if err := json.Unmarshal(text, &fields); err != nil {
					t.Fatal(err)
				}
				o := &translate.Objects{}
				for _, k := range kind.All {
					if k.Of().Qualified() == c.resource.Qualified() {
						store := k.NewStore(func() {})
						if err := store.Add(p); err != nil {
							t.Fatal(err)
						}
						store.Fill(o)
					}
				}
				sorted, _ := json.Marshal(fields.Status)
				return o, string(sorted)
			}
			o, _ := read()
			statuses := translate.Translate(o, "cluster.local").RouteStatuses
			f.Update(o, statuses)
			var got string
			missing := func() string {
				for _, w := range c.want {
					if !strings.Contains(got, w) {
						return w
					}
				}
				return ""
			}
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
				if o, got = read(); missing() == "" {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the status has no %s: %s", missing(), got)
				}
			}
			if (egress || c.resource == &custom.LinkerdRateLimits) && strings.Contains(got, "observedGeneration") {
				t.Errorf("the definition has no place for a generation, and what is missing would be written again: %s", got)
			}
			if again := outdated(o, statuses); len(again) > 0 {
				t.Errorf("a status that is right is to be written again: %v, %s", again, got)
			}
		})
	}
}
