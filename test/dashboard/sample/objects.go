package sample

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

func (w *World) lastMinute(match func(*edge) bool) *sums {
	end := w.options.Now().Truncate(10 * time.Second)
	var total *sums
	for _, e := range w.edges {
		if match(e) {
			total = merge(total, w.sumsOf(e, end.Add(-time.Minute), time.Minute), false)
		}
	}
	return total.finish(false)
}

func (w *World) routes(rw http.ResponseWriter, r *http.Request) {
	weight := canaryWeight(w.options.Now())
	canary := route{Kind: "HTTPRoute", Namespace: "shop", Name: "catalog", Parent: objectName{"shop", "catalog"}}
	split := rule{Name: "products", Matches: []string{"PathPrefix /products"}, Timeouts: "request 2s", Retries: "2 on 502, 503, connection errors"}
	for part, name := range map[int]string{1: "catalog-v1", 2: "catalog-v2"} {
		share := weight
		if part == 1 {
			share = 100 - weight
		}
		split.Backends = append(split.Backends, backend{"shop", name, share, w.lastMinute(func(e *edge) bool { return e.canary == part })})
	}
	if split.Backends[0].Name > split.Backends[1].Name {
		split.Backends[0], split.Backends[1] = split.Backends[1], split.Backends[0]
	}
	both := func(e *edge) bool { return e.canary > 0 }
	split.Total.Effective, split.Total.Actual = w.lastMinute(both), w.lastMinute(both)
	canary.Rules = []rule{split}

	voting := route{Kind: "GRPCRoute", Namespace: "emojivoto", Name: "votes", Parent: objectName{"emojivoto", "voting-svc"}}
	isVoting := func(e *edge) bool { return e.to.name == "voting" && e.to.ns == "emojivoto" }
	vote := rule{Name: "vote", Matches: []string{"emojivoto.v1.VotingService/Vote*"}, Backends: []backend{{"emojivoto", "voting-svc", 1, nil}}}
	vote.Total.Effective, vote.Total.Actual = w.lastMinute(isVoting), w.lastMinute(isVoting)
	results := rule{Name: "1", Matches: []string{"emojivoto.v1.VotingService/Results"}, Backends: []backend{{"emojivoto", "voting-svc", 1, nil}}}
	voting.Rules = []rule{vote, results}

	stock := route{Kind: "HTTPRoute", Namespace: "legacy", Name: "stock", Parent: objectName{"legacy", "erp"}}
	isStock := func(e *edge) bool { return e.from.name == "cart" && e.to.name == "erp" }
	stockRule := rule{Name: "0", Matches: []string{"Exact /stock", "header x-tenant=" + hostileText}, Backends: []backend{{"legacy", "erp", 1, nil}}, Timeouts: "request 1s, backend 400ms", Retries: "1 on 503"}
	stockRule.Total.Effective, stockRule.Total.Actual = w.lastMinute(isStock), w.lastMinute(isStock)
	if a := stockRule.Total.Actual; a != nil {
		a.Requests += a.Retries
	}
	stock.Rules = []rule{stockRule}

	out := routes{Kind: "Routes", Items: []route{}}
	for _, one := range []route{canary, voting, stock} {
		if ns := r.URL.Query().Get("namespace"); ns == "" || ns == one.Namespace {
			out.Items = append(out.Items, one)
		}
	}
	answer(rw, out)
}

func (w *World) connections(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	now := w.options.Now()
	out := connections{
		Kind: "ConnectionList", Nodes: answered{nodeCount, nodeCount - 1},
		Warnings: []string{silentNode + ": its agent does not answer (deadline exceeded)"}, Items: []connection{},
	}
	for _, e := range w.edges {
		if !selected(q.Get("namespace"), q.Get("kind"), q.Get("name"), e.from) && !selected(q.Get("namespace"), q.Get("kind"), q.Get("name"), e.to) {
			continue
		}
		for i := range 1 + int(e.id%3) {
			slow := w.noise(e.id, i, "slow") > 0.97
			c := connection{
				Since:              now.Add(-time.Duration(w.noise(e.id, i, "since") * w.noise(e.id, i, "s2") * float64(26*time.Hour))).UTC().Truncate(time.Second),
				Source:             peer{e.from.kind, e.from.ns, e.from.name, podName(e.from, i%max(1, e.from.pods))},
				Destination:        peer{e.to.kind, e.to.ns, e.to.name, podName(e.to, i%max(1, e.to.pods))},
				SourceAddress:      fmt.Sprintf("10.%d.%d.%d:%d", 244, e.from.id%250, i+2, 32768+(int(e.id)*97+i*13)%28000),
				DestinationAddress: fmt.Sprintf("10.%d.%d.%d:%d", 244, e.to.id%250, i+2, 8080),
				Protocol:           e.protocol, Secured: e.secured, SRTT: 0.08 + 0.6*w.noise(e.id, "srtt"), Node: "",
				ReadBytes:  int64(w.noise(e.id, i, "rb")*4e6) + now.Unix()%1000*int64(e.rate*40),
				WriteBytes: int64(w.noise(e.id, i, "wb")*9e7) + now.Unix()%1000*int64(e.rate*900),
			}
			if e.to.kind == "external" {
				c.Destination.Pod, c.DestinationAddress = "", "203.0.113.7:443"
			}
			if !e.from.isPods() {
				c.Source.Pod = ""
			}
			if slow {
				c.SRTT, c.Retransmits = 21+60*w.noise(e.id, i, "slow srtt"), 1+int(24*w.noise(e.id, i, "resent"))
			}
			if len(e.from.nodes) > 0 {
				c.Node = e.from.nodes[i%len(e.from.nodes)]
			}
			// Requests share connections, so both sides of the agent are told by themselves.
			if e.protocol != "tcp" && e.protocol != "tls" {
				inner := c
				inner.Part, inner.SRTT, inner.Retransmits = tapv1alpha1.PartApplication, 0.05, 0
				out.Items = append(out.Items, inner)
				c.Part = tapv1alpha1.PartWire
			}
			out.Items = append(out.Items, c)
		}
	}
	out.Total = len(out.Items)
	answer(rw, out)
}

func (w *World) nodes(rw http.ResponseWriter, _ *http.Request) {
	now := w.options.Now()
	list := tapv1alpha1.NodeList{Kind: "NodeList", APIVersion: tapv1alpha1.GroupVersion}
	for i := range nodeCount {
		n := tapv1alpha1.Node{Metadata: tapv1alpha1.Meta{Name: fmt.Sprintf("node-%d", i+1)}, Address: fmt.Sprintf("192.0.2.%d:4193", i+10)}
		if n.Metadata.Name == silentNode {
			n.Error = "its agent does not answer (deadline exceeded)"
			list.Items = append(list.Items, n)
			continue
		}
		pods, certificates := []map[string]any{}, []map[string]any{}
		for _, l := range w.workloads {
			for p := range l.pods {
				if len(l.nodes) == 0 || l.nodes[p%len(l.nodes)] != n.Metadata.Name {
					continue
				}
				state, reason := "enrolled", ""
				if p >= l.meshed {
					state, reason = "left-out", "the pod has no label underlane.io/mesh"
				} else if l.id%211 == 210 {
					state, reason = "pending", "waits for its certificate"
				}
				pods = append(pods, map[string]any{"namespace": l.ns, "name": podName(l, p), "ip": fmt.Sprintf("10.244.%d.%d", l.id%250, p+2), "state": state, "reason": reason, "preMeshConnections": l.id % 37 / 36})
			}
		}
		certificates = append(certificates, map[string]any{"identity": "node", "state": "valid", "notAfter": now.Add(14 * time.Hour).UTC()})
		version := "v0.9.0"
		if i == 4 {
			version = "v0.8.2"
		}
		status, err := json.Marshal(map[string]any{
			"version": version, "node": n.Metadata.Name, "started": now.Add(-time.Duration(31+i*13) * time.Hour).UTC().Truncate(time.Second), "ready": true, "synced": true, "programsAttached": true,
			"controller": map[string]any{"address": "underlane-controller.underlane-system.svc:8443", "connected": true}, "snapshotVersion": "48213",
			"pods": pods, "certificates": certificates, "openConnections": fmt.Sprint(180 + i*17 + int(now.Unix()/10)%23), "plaintextFallbacks": fmt.Sprint(i % 4 / 3 * 12),
			"ringbufLost": "0", "tapLost": fmt.Sprint(i % 5 / 4 * 38), "repairs": "0", "kernelEvents": []map[string]any{{"name": "capture-no-slot", "value": fmt.Sprint(i % 6 / 5)}},
		})
		if err != nil {
			n.Error = err.Error()
		}
		n.Status = status
		list.Items = append(list.Items, n)
	}
	answer(rw, list)
}

func (w *World) check(rw http.ResponseWriter, _ *http.Request) {
	answer(rw, checks{Kind: "Check", Categories: []checkCategory{
		{"underlane-existence", []check{
			{Description: "the controller answers", Result: "ok"},
			{Description: "the controller has one leader", Result: "ok"},
			{Description: "an agent runs on every node", Result: "ok"},
		}},
		{"underlane-agents", []check{
			{Description: "every agent is ready", Result: "error", Message: silentNode + ": its agent does not answer (deadline exceeded)", Hint: "kubectl -n underlane-system logs -l app=underlane-agent --field-selector spec.nodeName=" + silentNode},
			{Description: "agents have the controller's version", Result: "warning", Message: "node-5: v0.8.2, the controller is v0.9.0", Hint: "underlane upgrade | kubectl apply -f -"},
			{Description: "no kernel object was changed by another program", Result: "ok"},
		}},
		{"underlane-identity", []check{
			{Description: "trust anchors are valid for at least 60 days", Result: "ok"},
			{Description: "no workload certificate has less than a fifth of its life left", Result: "ok"},
		}},
		{"underlane-pods", []check{
			{Description: "every labelled pod is in the mesh", Result: "warning", Message: "legacy/erp-1 left out: " + hostileText, Hint: "kubectl -n legacy describe pod erp-1"},
		}},
	}})
}
