package translate_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mesh"
)

var update = flag.Bool("update", false, "write the golden files")

// load reads objects from a manifest in testdata.
func load(t *testing.T, path string) *translate.Objects {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := watch.Decode(text)
	if err != nil {
		t.Fatal(path, err)
	}
	return objects
}

// render prints a result: a line for each value, what is at its default left
// out.
func render(r translate.Result) string {
	var b strings.Builder
	for _, w := range r.Workloads {
		fmt.Fprintf(&b, "workload %s\n  uid %s, node %s, owner %s/%s\n  identity %s\n  addrs %v\n",
			w.Namespace+"/"+w.Name, w.UID, w.Node, w.OwnerKind, w.OwnerName, w.Identity, w.Addrs)
		var flags []string
		for name, on := range map[string]bool{
			"meshed": w.Meshed, "ready": w.Ready, "host-network": w.HostNetwork, "network-policy": w.NetworkPolicy,
			"strict": w.Settings.Policy == mesh.PolicyStrict, "fail-closed": w.Settings.FailClosed,
			"enrolled": w.Enrolled, "terminating": w.Terminating, "own-label": w.OwnLabel, "own-settings": w.OwnSettings, "plaintext-fallback": w.Settings.PlaintextFallback, "ingress": w.Settings.Ingress,
		} {
			if on {
				flags = append(flags, name)
			}
		}
		slices.Sort(flags)
		fmt.Fprintf(&b, "  %s\n", strings.Join(flags, " "))
		if w.Zone != "" {
			fmt.Fprintf(&b, "  zone %s\n", w.Zone)
		}
		if w.Settings.RateLimit != nil || w.Settings.ClientRateLimit != nil {
			fmt.Fprintf(&b, "  rate limit %s, of a client %s\n", compact(w.Settings.RateLimit), compact(w.Settings.ClientRateLimit))
		}
		if w.Settings.AccessLog != mesh.AccessLogNone {
			fmt.Fprintf(&b, "  access log %s\n", w.Settings.AccessLog)
		}
		if w.Settings.TraceSampling != nil {
			fmt.Fprintf(&b, "  trace sampling %s\n", w.Settings.TraceSampling)
		}
		if w.Observed {
			b.WriteString("  observed\n")
		}
		if w.LeftOut != "" {
			fmt.Fprintf(&b, "  left out: %s\n", w.LeftOut)
		}
		for _, p := range []struct {
			name   string
			ranges []mesh.PortRange
		}{{"skip-outbound", w.Settings.SkipOutboundPorts}, {"skip-inbound", w.Settings.SkipInboundPorts}, {"opaque", w.Settings.OpaquePorts}} {
			if len(p.ranges) > 0 {
				fmt.Fprintf(&b, "  %s %v\n", p.name, p.ranges)
			}
		}
	}
	for _, s := range r.Services {
		fmt.Fprintf(&b, "service %s/%s %v\n", s.Namespace, s.Name, s.VIPs)
		if s.SessionAffinity {
			fmt.Fprintln(&b, "  session affinity")
		}
		if s.NodeLocal {
			fmt.Fprintln(&b, "  node-local")
		}
		if s.FailureAccrual != nil {
			fmt.Fprintf(&b, "  failure accrual %s\n", compact(s.FailureAccrual))
		}
		if s.RetryBudget != nil {
			fmt.Fprintf(&b, "  retry budget %s\n", compact(s.RetryBudget))
		}
		for _, p := range s.Ports {
			fmt.Fprintf(&b, "  %d %s %s\n", p.Port, p.Name, p.AppProtocol)
			if len(p.External) > 0 {
				fmt.Fprintf(&b, "    external %v\n", p.External)
			}
			if p.NodePort != 0 {
				fmt.Fprintf(&b, "    node port %d\n", p.NodePort)
			}
			for _, e := range p.Endpoints {
				name := "-"
				if e.Workload != nil {
					name = e.Workload.Name
				}
				fmt.Fprintf(&b, "    %s %s ready=%v", e.Addr, name, e.Ready)
				if len(e.ForZones)+len(e.ForNodes) > 0 {
					fmt.Fprintf(&b, " for zones %v, nodes %v", e.ForZones, e.ForNodes)
				}
				fmt.Fprintln(&b)
			}
		}
	}
	if len(r.Nodes) > 0 {
		fmt.Fprintf(&b, "nodes %v\n", r.Nodes)
	}
	renderRoutes(&b, &r)
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "problem %s\n", p)
	}
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			got := render(translate.Translate(load(t, path), "cluster.local"))
			golden := strings.TrimSuffix(path, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestOrderDoesNotMatter: informers and directories give objects in any order.
func TestOrderDoesNotMatter(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, path := range files {
		o := load(t, path)
		want := render(translate.Translate(o, "cluster.local"))
		for range 10 {
			shuffle(o.Namespaces)
			shuffle(o.Nodes)
			shuffle(o.Pods)
			shuffle(o.Services)
			shuffle(o.EndpointSlices)
			shuffle(o.NetworkPolicies)
			shuffle(o.HTTPRoutes)
			shuffle(o.GRPCRoutes)
			shuffle(o.TrafficPolicies)
			shuffle(o.TrafficSplits)
			shuffle(o.HTTPRouteGroups)
			shuffle(o.HTTPFaults)
			if diff := cmp.Diff(want, render(translate.Translate(o, "cluster.local"))); diff != "" {
				t.Fatal(path, diff)
			}
		}
	}
}

func shuffle[T any](s []T) { rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] }) }

// TestObjectsAreNotChanged: informers share theirs with everybody.
func TestObjectsAreNotChanged(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, path := range files {
		o := load(t, path)
		before, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		translate.Translate(o, "cluster.local")
		if after, _ := json.Marshal(o); !bytes.Equal(before, after) {
			t.Error(path, "was changed")
		}
	}
}

func TestEndpointsPointIntoWorkloads(t *testing.T) {
	r := translate.Translate(load(t, "testdata/services.yaml"), "cluster.local")
	byAddr := map[netip.Addr]*mesh.Workload{}
	for _, w := range r.Workloads {
		for _, a := range w.Addrs {
			byAddr[a] = w
		}
	}
	n := 0
	for _, s := range r.Services {
		for _, p := range s.Ports {
			for _, e := range p.Endpoints {
				if e.Workload != nil && e.Workload != byAddr[e.Addr.Addr()] {
					t.Errorf("%s/%s: endpoint %s has a workload of its own", s.Namespace, s.Name, e.Addr)
				}
				n++
			}
		}
	}
	if n == 0 {
		t.Error("no endpoints")
	}
}
