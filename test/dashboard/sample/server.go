package sample

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// Handler answers the API's paths, without their prefix.
func (w *World) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /figures", w.figures)
	mux.HandleFunc("GET /history", w.figures)
	mux.HandleFunc("GET /resources", w.resources)
	mux.HandleFunc("GET /routes", w.routes)
	mux.HandleFunc("GET /connections", w.connections)
	mux.HandleFunc("GET /namespaces/{namespace}/authz/access", w.access)
	mux.HandleFunc("GET /nodes", w.nodes)
	mux.HandleFunc("GET /check", w.check)
	mux.HandleFunc("GET /watch/figures", w.watchFigures)
	mux.HandleFunc("GET /watch/namespaces/{namespace}/figures", w.watchFigures)
	mux.HandleFunc("GET /watch/tap", w.tap)
	mux.HandleFunc("GET /watch/namespaces/{namespace}/tap", w.tap)
	mux.HandleFunc("GET /watch/namespaces/{namespace}/{kind}/{name}/tap", w.tap)
	// Whoever may see one namespace only asks so; of them is the user of "forbidden".
	mux.HandleFunc("GET /namespaces/{namespace}/{what}", func(rw http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		q.Set("namespace", r.PathValue("namespace"))
		inner := r.Clone(context.WithValue(r.Context(), narrow{}, true))
		inner.URL.Path, inner.URL.RawQuery = "/"+r.PathValue("what"), q.Encode()
		mux.ServeHTTP(rw, inner)
	})
	mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		fail(rw, http.StatusNotFound, "NotFound", "the generated data has no "+r.URL.Path)
	})
	return mux
}

// narrow marks the context of a request whose path names the namespace.
type narrow struct{}

func answer(rw http.ResponseWriter, v any) {
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(v)
}

func fail(rw http.ResponseWriter, code int, reason, message string) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(code)
	_ = json.NewEncoder(rw).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
}

// span is what a request asks the figures of.
type span struct {
	start, end time.Time
	step       time.Duration
}

func (w *World) span(r *http.Request) (span, error) {
	q := r.URL.Query()
	window, end := time.Minute, w.options.Now()
	var err error
	if text := q.Get("window"); text != "" {
		if window, err = time.ParseDuration(text); err != nil || window <= 0 || window > 24*time.Hour {
			return span{}, fmt.Errorf("window=%s: want a duration of up to 24h", text)
		}
	}
	if text := q.Get("end"); text != "" {
		if end, err = time.Parse(time.RFC3339, text); err != nil {
			return span{}, fmt.Errorf("end=%s: want a time as in RFC 3339", text)
		}
	}
	s := span{step: window}
	if text := q.Get("step"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds <= 0 || window/(time.Duration(seconds)*time.Second) > 1000 {
			return span{}, fmt.Errorf("step=%s: want seconds, for at most 1000 points", text)
		}
		s.step = time.Duration(seconds) * time.Second
	}
	// Windows are closed every ten seconds; what is later is not there yet.
	s.end = end.Truncate(min(s.step, 10*time.Second)).UTC()
	s.start = s.end.Add(-window)
	return s, nil
}

func (w *World) figures(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	// A question that the API refuses is refused here too.
	if _, err := tapv1alpha1.ParseFigures(q); err != nil {
		fail(rw, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	s, err := w.span(r)
	if err != nil {
		fail(rw, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	if ns := q.Get("namespace"); ns == "forbidden" || ns == "legacy" && w.options.Narrow && r.Context().Value(narrow{}) == nil {
		fail(rw, http.StatusForbidden, "Forbidden", `figures.tap.underlane.io is forbidden: User "jane" cannot list resource "figures"`)
		return
	}
	out := figures{
		Kind: "Figures", Start: s.start, End: s.end, Since: w.since(s.end, youngNode), Nodes: answered{nodeCount, nodeCount - 1},
		Warnings:  []string{silentNode + ": its agent does not answer (deadline exceeded)"},
		Resources: []resource{}, Edges: []edgeSums{},
	}
	var unknown time.Duration
	if out.Gaps, unknown = gaps(s); out.Gaps != nil {
		out.History, out.CoveredSeconds = true, int((s.end.Sub(s.start) - unknown).Seconds())
		out.Since = s.start
	}
	if q.Get("step") != "" {
		out.StepSeconds = int(s.step.Seconds())
	}
	by := q.Get("by")
	ids := map[string]int{}
	id := func(l *workload) int {
		res := w.resource(l, by)
		key := res.Kind + "/" + res.Namespace + "/" + res.Name
		if n, ok := ids[key]; ok {
			return n
		}
		res.ID = len(out.Resources)
		ids[key] = res.ID
		out.Resources = append(out.Resources, res)
		return res.ID
	}
	type key struct {
		from, to          int
		protocol, secured string
		service           objectName
	}
	merged := map[key]int{}
	for _, e := range w.edges {
		if !selected(q.Get("namespace"), q.Get("kind"), q.Get("name"), e.from) && !selected(q.Get("namespace"), q.Get("kind"), q.Get("name"), e.to) {
			continue
		}
		if to := q.Get("to"); to != "" && !strings.HasSuffix(to, "/"+e.to.name) {
			continue
		}
		if p := q.Get("protocol"); p != "" && p != e.protocol {
			continue
		}
		k := key{from: id(e.from), to: id(e.to), protocol: e.protocol, secured: e.secured}
		if by == "namespace" {
			k.protocol = ""
		} else if e.service != nil {
			k.service = *e.service
		}
		n, ok := merged[k]
		if !ok {
			n = len(out.Edges)
			merged[k] = n
			row := edgeSums{Source: k.from, Destination: k.to, Protocol: k.protocol, Secured: e.secured, SecuredWhy: e.why, Partial: e.to.nodes != nil && e.to.nodes[0] == silentNode}
			if by != "namespace" {
				row.Service = e.service
			}
			if out.StepSeconds > 0 {
				row.Points = make([]*sums, int(s.end.Sub(s.start)/s.step))
			}
			out.Edges = append(out.Edges, row)
		}
		w.fill(&out.Edges[n], e, s, out)
	}
	buckets := q.Get("buckets") == "true"
	for i := range out.Edges {
		out.Edges[i].Total.finish(buckets)
		if whole := s.end.Sub(s.start).Seconds(); !out.History && out.Edges[i].rate > 0 {
			if covered := out.Edges[i].counted / out.Edges[i].rate; covered < whole-0.001 {
				out.Edges[i].Covered = covered
			}
		}
		for _, p := range out.Edges[i].Points {
			p.finish(buckets)
		}
	}
	answer(rw, out)
}

// fill adds the figures of e to those of a row of out.
func (w *World) fill(row *edgeSums, e *edge, s span, out figures) {
	var total *sums
	from := s.start
	if !out.History && len(e.to.nodes) > 0 {
		from = later(from, w.since(s.end, e.to.nodes[0]))
	}
	for i, at := 0, s.start; at.Before(s.end); i, at = i+1, at.Add(s.step) {
		begin, end := later(at, from), at.Add(min(s.step, s.end.Sub(at)))
		if !begin.Before(end) || !known(out.Gaps, at, end.Sub(at)) {
			continue
		}
		one := w.sumsOf(e, begin, end.Sub(begin))
		total = merge(total, one, true)
		if out.StepSeconds > 0 && i < len(row.Points) {
			row.Points[i] = merge(row.Points[i], one, false)
		}
	}
	row.Total = merge(row.Total, total, false)
	if total != nil { // rates of agents that remember different times add up, the times do not
		n := float64(max(1, total.Requests+total.TCP.Opened))
		row.counted, row.rate = row.counted+n, row.rate+n/s.end.Sub(from).Seconds()
	}
}

// since is the time from which on the agent of a node remembers something.
func (w *World) since(now time.Time, node string) time.Time {
	if w.options.Young && node == youngNode {
		return now.Add(-youngAge)
	}
	return now.Add(-tapv1alpha1.AgentsRemember)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func selected(ns, kind, name string, l *workload) bool {
	return (ns == "" || l.ns == ns) && (kind == "" || l.kind == kind) && (name == "" || l.name == name)
}

func (w *World) resource(l *workload, by string) resource {
	if by == "namespace" && l.isPods() {
		return w.namespace(l.ns)
	}
	res := resource{Kind: l.kind, Namespace: l.ns, Name: l.name, Pods: l.pods, Meshed: l.meshed, Ready: l.ready}
	if l.meshed > 0 {
		res.Identity = identityOf(l)
	}
	return res
}

func identityOf(l *workload) string {
	return "spiffe://cluster.local/ns/" + l.ns + "/sa/" + l.name
}

func (w *World) namespace(ns string) resource {
	res := resource{Kind: "namespace", Name: ns}
	for _, l := range w.workloads {
		if l.ns == ns {
			res.Pods += l.pods
			res.Meshed += l.meshed
			res.Ready += l.ready
		}
	}
	return res
}

// resources lists workloads with what they use, or namespaces.
func (w *World) resources(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	now := w.options.Now()
	list := struct {
		Kind     string     `json:"kind"`
		Nodes    answered   `json:"nodes"`
		Warnings []string   `json:"warnings"`
		Items    []resource `json:"items"`
	}{"ResourceList", answered{nodeCount, nodeCount - 1}, []string{silentNode + ": its agent does not answer (deadline exceeded)"}, []resource{}}
	seen := map[string]bool{}
	for _, l := range w.workloads {
		switch {
		case !l.isPods():
		case q.Get("kind") == "namespace":
			if !seen[l.ns] {
				seen[l.ns] = true
				list.Items = append(list.Items, w.namespace(l.ns))
			}
		case q.Get("kind") == "pod" && (q.Get("namespace") == "" || q.Get("namespace") == l.ns) && (q.Get("name") == "" || strings.HasPrefix(q.Get("name"), l.name) || q.Get("owner") == l.name):
			for i := range l.pods {
				res := w.resource(l, "workload")
				res.Kind, res.Name, res.Pods, res.Meshed, res.Ready = "pod", podName(l, i), 1, min(l.meshed, 1), 1
				w.use(&res, l, now, i)
				res.Nodes = []string{l.nodes[i%len(l.nodes)]}
				list.Items = append(list.Items, res)
			}
		case q.Get("kind") == "pod":
		case selected(q.Get("namespace"), q.Get("kind"), q.Get("name"), l):
			res := w.resource(l, "workload")
			w.use(&res, l, now, -1)
			list.Items = append(list.Items, res)
		}
	}
	for i := range list.Items {
		list.Items[i].ID = i
	}
	answer(rw, list)
}

// use adds what a workload, or its pod i, uses now.
func (w *World) use(res *resource, l *workload, now time.Time, i int) {
	moment := now.Unix() / 10
	wobble := 0.85 + 0.3*w.noise(l.id, i, moment)
	n := float64(max(1, l.pods))
	if i >= 0 {
		n = 1
	}
	res.Nodes = l.nodes
	if slices.Contains(l.nodes, silentNode) && (i < 0 || l.nodes[i%len(l.nodes)] == silentNode) {
		res.Partial = true
		if i >= 0 || len(l.nodes) == 1 {
			return // nothing is known of it
		}
	}
	res.Resources = &usage{CPU: l.cpu * wobble * n, CPULimit: 0.5 * n, Memory: int64(l.memory * n * (0.97 + 0.06*w.noise(l.id, i, moment/6))), MemoryLimit: int64(n * 1024 * 1024 * 1024), PSI: pressure{CPU: 3 * wobble * l.cpu}}
	if l.throttled {
		res.Resources.Throttled, res.Resources.PSI.CPU = 0.34*wobble, 41*wobble
	}
	if l.oom {
		res.Resources.OOMKills, res.Resources.Memory, res.Resources.PSI.Memory = 2, int64(0.97*n*1024*1024*1024), 22*wobble
	}
	if l.meshed > 0 {
		res.Mesh = &meshCost{CPU: 0.004 * wobble * n, Memory: int64(1.1e6 * n), Connections: 3 + l.id%9*int(n), Waiting: 0}
		left := time.Duration(l.expiresInMinute-int(now.Unix()/60)%12) * time.Minute
		res.Settings = settingsOf(l, w.options.Hostile)
		res.Certificate = &certificate{Identity: identityOf(l), Expires: now.Add(left).UTC().Truncate(time.Second)}
	}
}

// settingsOf are the settings of a workload: one that differs among its pods, and those of a
// database.
func settingsOf(l *workload, hostile bool) []setting {
	all := []setting{{"policy", []string{"allow"}}, {"fail-mode", []string{"open"}}}
	switch {
	case l.kind == "statefulset":
		all[0].Values[0], all[1].Values[0] = "strict", "closed"
		all = append(all, setting{"opaque-ports", []string{"3306,5432"}})
	case l.name == "web":
		all = append(all, setting{"access-log", []string{"json", "not set"}})
	}
	if hostile {
		all = append(all, setting{"skip-outbound-ports", []string{hostileText}})
	}
	return all
}

func podName(l *workload, i int) string {
	if l.kind == "statefulset" {
		return fmt.Sprintf("%s-%d", l.name, i)
	}
	return fmt.Sprintf("%s-%05x-%04x", l.name, l.id*7919%0xfffff, (l.id*31+i*977)%0xffff)
}
