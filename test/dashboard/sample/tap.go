package sample

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
)

// tap streams what the edges that a request selects do, an event a line. It makes at
// most 200 requests a second, as an agent's limit does.
func (w *World) tap(rw http.ResponseWriter, r *http.Request) {
	request, kind, err := tapv1alpha1.ParseQuery(r.URL.Query())
	if err != nil {
		fail(rw, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	if plural := r.PathValue("kind"); plural != "" {
		kind = strings.TrimSuffix(plural, "s")
	}
	ns, name := r.PathValue("namespace"), r.PathValue("name")
	if kind == "service" {
		kind = ""
	}
	var edges []*edge
	rate := 0.0
	for _, e := range w.edges {
		out := selected(ns, kind, name, e.from)
		into := selected(ns, kind, name, e.to) || e.service != nil && name != "" && e.service.Name == name
		if !out && (!into || request.GetTo() != "") {
			continue
		}
		if to := request.GetTo(); to != "" {
			_, toName, named := strings.Cut(to, "/")
			if named && toName != e.to.name || request.GetToNamespace() != "" && request.GetToNamespace() != e.to.ns {
				continue
			}
		}
		edges = append(edges, e)
		rate += e.rate
	}
	rw.Header().Set("Content-Type", tapv1alpha1.MediaJSON)
	out := bufio.NewWriterSize(rw, 32<<10)
	speed := max(1, w.options.Speed)
	limit := 200.0
	if most := request.GetMaxRps(); most > 0 {
		limit = min(limit, most)
	}
	rate = min(rate, limit) * speed
	random := rand.New(rand.NewPCG(w.options.Seed, uint64(len(edges))))
	encoder := json.NewEncoder(out)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	due, stream := 1.0, uint64(0)
	fmt.Fprintf(out, "{\"warning\":%q}\n", silentNode+": its agent does not answer (deadline exceeded)")
	for tick := 0; ; tick++ {
		for due += rate / 10; due >= 1 && len(edges) > 0; due-- {
			e := edges[random.IntN(len(edges))]
			stream++
			if e.protocol == "tcp" || e.protocol == "tls" {
				_ = encoder.Encode(w.closed(e, random, stream))
				continue
			}
			for _, event := range w.call(e, random, stream, request.GetMethod(), request.GetPath()) {
				_ = encoder.Encode(event)
			}
		}
		if tick%50 == 49 {
			fmt.Fprintln(out)
		}
		if tick == 70 {
			fmt.Fprintln(out, `{"lostEvents":12}`)
		}
		if out.Flush() != nil || http.NewResponseController(rw).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
		}
	}
}

func (w *World) ends(e *edge, random *rand.Rand) (source, destination map[string]any) {
	end := func(l *workload, port int) map[string]any {
		if l.kind == "external" {
			return map[string]any{"ip": "203.0.113.7", "port": 443, "metadata": map[string]string{}}
		}
		if l.kind == tapv1alpha1.KindNode {
			return map[string]any{"ip": "192.0.2.9", "port": port, "metadata": map[string]string{"node_name": l.name}}
		}
		pod := random.IntN(max(1, l.pods))
		meta := map[string]string{"namespace": l.ns, "pod": podName(l, pod), l.kind: l.name, "serviceaccount": l.name}
		if len(l.nodes) > 0 {
			meta["node_name"] = l.nodes[pod%len(l.nodes)]
		}
		if l.meshed > 0 {
			meta["identity"] = identityOf(l)
		}
		return map[string]any{"ip": fmt.Sprintf("10.244.%d.%d", l.id%250, pod+2), "port": port, "metadata": meta}
	}
	return end(e.from, 32768+random.IntN(28000)), end(e.to, 8080)
}

func (w *World) event(e *edge, random *rand.Rand) map[string]any {
	source, destination := w.ends(e, random)
	meta := map[string]string{}
	if e.service != nil {
		meta["service"], meta["service_namespace"] = e.service.Name, e.service.Namespace
	}
	if e.canary > 0 {
		meta["route"], meta["route_namespace"], meta["route_kind"], meta["route_rule"] = "catalog", "shop", "HTTPRoute", "products"
	}
	return map[string]any{
		"source": source, "destination": destination, "routeMeta": meta, "proxyDirection": "OUTBOUND",
		"time": w.options.Now().UTC(), "origin": "proxy", "tls": e.secured, "protocol": e.protocol,
	}
}

func duration(ms float64) map[string]int64 {
	ns := int64(ms * 1e6)
	return map[string]int64{"seconds": ns / 1e9, "nanos": ns % 1e9}
}

func (w *World) call(e *edge, random *rand.Rand, stream uint64, wantMethod, wantPath string) []map[string]any {
	path := e.paths[random.IntN(len(e.paths))]
	if w.options.Speed > 1 {
		path += "/" + strconv.FormatUint(stream, 10)
	}
	method := "GET"
	if e.protocol == "grpc" || strings.Contains(path, "charges") || strings.Contains(path, "items") {
		method = "POST"
	}
	if wantMethod != "" && !strings.EqualFold(method, wantMethod) || !strings.HasPrefix(path, wantPath) {
		return nil
	}
	ms := e.median * math.Exp(random.NormFloat64()*e.spread)
	status, code, reason := 200, 0, ""
	switch {
	case strings.Contains(path, "VoteDoughnut"):
		code = 2
	case strings.Contains(path, ":doughnut:"):
		status = 500
	case e.to.name == "voting" || e.from.name == "vote-bot":
	case random.Float64() < e.failing && e.reason != "":
		status, reason = mesh.ParseReason(e.reason).HTTPStatus(), e.reason
	case random.Float64() < e.failing:
		status = 500
	}
	id := map[string]any{"base": 7, "stream": stream}
	init := w.event(e, random)
	init["requestInitEvent"] = map[string]any{
		"id": id, "method": method, "scheme": "http", "authority": e.authority, "path": path,
		"headers":    []map[string]string{{"name": "user-agent", "valueStr": "sample/1.0 " + hostileText}, {"name": "authorization", "valueStr": "(redacted)"}, {"name": "x-request-id", "valueStr": strconv.FormatUint(stream, 16)}, {"name": "x-tenant-bin", "valueBin": "/wDDKMOp"}},
		"headersCut": stream%2 == 0,
	}
	end := map[string]any{}
	for k, v := range init {
		if k != "requestInitEvent" {
			end[k] = v
		}
	}
	if reason != "" {
		end["reason"], end["reasonText"] = reason, mesh.ParseReason(reason).Text()
	}
	end["responseEndEvent"] = map[string]any{
		"id": id, "sinceRequestInit": duration(ms), "sinceResponseInit": duration(0.1 * ms), "responseBytes": 120 + random.IntN(9000), "requestBytes": random.IntN(700),
		"split":          map[string]any{"queue": duration(0.02 * ms), "connect": duration(0.01 * ms), "tls": duration(0.01 * ms), "firstByte": duration(0.86 * ms), "body": duration(0.1 * ms)},
		"grpcStatusCode": code, "grpc": e.protocol == "grpc", "method": method, "authority": e.authority, "path": path, "httpStatus": status,
		"success": status < 500 && code == 0 && reason == "", "trailers": []any{}, "headers": []map[string]string{{"name": "content-type", "valueStr": "application/json"}},
	}
	return []map[string]any{init, end}
}

func (w *World) closed(e *edge, random *rand.Rand, stream uint64) map[string]any {
	out := w.event(e, random)
	out["connCloseEvent"] = map[string]any{
		"id": map[string]any{"base": 7, "stream": stream}, "event": "close", "duration": duration(e.median * math.Exp(random.NormFloat64())), "sentBytes": random.IntN(4000), "receivedBytes": random.IntN(90000),
		"legs": map[string]any{"client": map[string]any{"srtt": duration(0.06), "retransmits": 0}, "server": map[string]any{"srtt": duration(0.2), "retransmits": 1, "unread": duration(4)}},
		"srtt": duration(0.2), "retransmits": random.IntN(40) / 39, "process": "mysqld",
	}
	if random.Float64() < e.failing && e.reason == "policy-denied" {
		out["reason"], out["reasonText"] = e.reason, mesh.ParseReason(e.reason).Text()
		out["connCloseEvent"] = map[string]any{"id": map[string]any{"base": 7, "stream": stream}, "event": "denied", "duration": duration(0)}
	}
	if e.secured == "not-proxied" {
		out["origin"] = "kernel"
	}
	return out
}
