package table

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// Stat is what the command stat is asked for: resources of one kind.
type Stat struct {
	Kind          filter.Kind
	Names         []string // none: all of the kind
	Namespace     string   // "": all
	To, From      string   // TYPE/NAME or TYPE; at most one of them
	ToNamespace   string
	FromNamespace string
	Window        time.Duration
	Unmeshed      bool   // rows of resources without a pod in the mesh, too
	Selector      string // only resources with pods of these labels; "": all
}

// Query returns the query that the rows are made of. As in Linkerd, the figures of a
// resource are those of what it is sent, seen at its own side; with To what it sends to
// that resource, and with From what it is sent by that one, seen at the clients' side, as
// is what is sent to a Service.
func (s *Stat) Query() tapv1alpha1.FiguresQuery {
	q := tapv1alpha1.FiguresQuery{
		By: tapv1alpha1.ByWorkload, Side: tapv1alpha1.SideSource, Namespace: s.Namespace, Window: s.Window, Buckets: true, Selector: s.Selector,
	}
	own, namespace := string(s.Kind), s.Namespace
	if len(s.Names) == 1 {
		own += "/" + s.Names[0]
	}
	switch s.Kind {
	case filter.KindNamespace:
		q.By, namespace = tapv1alpha1.ByNamespace, ""
		if len(s.Names) == 1 {
			q.Namespace = s.Names[0]
		} else {
			q.Namespace = ""
		}
	case filter.KindPod:
		q.By = tapv1alpha1.ByPod
	}
	if s.To != "" && s.Kind == filter.KindService { // what clients send to the Service, and it passes on to To
		q.Kind, q.To, q.ToNamespace = string(s.Kind), s.To, s.ToNamespace
		if len(s.Names) == 1 {
			q.Name = s.Names[0]
		}
		return q
	}
	if s.To != "" {
		q.From, q.FromNamespace, q.To, q.ToNamespace = own, namespace, s.To, s.ToNamespace
		return q
	}
	q.To, q.ToNamespace = own, namespace
	if s.From != "" {
		q.From, q.FromNamespace = s.From, s.FromNamespace
	} else if s.Kind != filter.KindService {
		q.Side = tapv1alpha1.SideDestination
	}
	return q
}

// StatRow is a row of stat.
type StatRow struct {
	Kind, Namespace, Name string
	Pods, Meshed, Ready   int // Meshed and Ready of Pods
	Sums                  figures.Sums
	Partial               bool // an agent that may know more has not answered
	Via                   *Via // of a route; nil: the row is of a resource
	// Usage is what the containers of its pods use; nil: it is not known.
	Usage   *tapv1alpha1.Usage
	seconds float64 // that were asked for

	requests, tcp spread
}

// Rows returns the rows of the answer to Query, by namespace and name.
func (s *Stat) Rows(f *tapv1alpha1.Figures) []*StatRow {
	rows := map[id]*StatRow{}
	seconds := f.End.Sub(f.Start).Seconds()
	if f.History {
		seconds = float64(f.CoveredSeconds)
	}
	row := func(key id) *StatRow {
		if rows[key] == nil {
			rows[key] = &StatRow{Kind: key.kind, Namespace: key.namespace, Name: key.name, seconds: seconds}
		}
		return rows[key]
	}
	for i := range f.Resources {
		r := &f.Resources[i]
		// As Linkerd's, the rows of a pair are only those with traffic.
		if s.To != "" || s.From != "" {
			break
		}
		if !s.about(r.Kind, r.Namespace, r.Name) || s.Selector != "" && !r.Selected || r.Kind != string(filter.KindService) && r.Pods == 0 {
			continue
		}
		if r.Kind == string(filter.KindService) || r.Meshed > 0 || s.Unmeshed {
			row := row(id{r.Kind, r.Namespace, r.Name})
			row.Pods, row.Meshed, row.Ready, row.Partial = r.Pods, r.Meshed, r.Ready, r.Partial
		}
	}
	for i := range f.Edges {
		e := &f.Edges[i]
		key, ok := s.rowOf(f, e)
		if !ok {
			continue
		}
		r := row(key)
		if end := s.end(e); s.Kind != filter.KindService && end >= 0 && end < len(f.Resources) {
			r.Pods, r.Meshed, r.Ready = f.Resources[end].Pods, f.Resources[end].Meshed, f.Resources[end].Ready
		}
		sums := sumsOf(e.Total)
		r.Sums.Add(sums)
		covered := seconds
		if !f.History { // whose time has gaps, which all edges share
			covered = cmp.Or(e.CoveredSeconds, seconds)
		}
		r.requests.add(float64(sums.Requests()), covered)
		r.tcp.add(float64(sums.Read+sums.Written), covered)
		r.Partial = r.Partial || e.Partial
	}
	out := make([]*StatRow, 0, len(rows))
	for _, r := range rows {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *StatRow) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// UsageQuery returns the query for what the resources of the rows use, and false if they
// are Services, which use nothing.
func (s *Stat) UsageQuery() (q tapv1alpha1.ResourcesQuery, ok bool) {
	q = tapv1alpha1.ResourcesQuery{Kind: string(s.Kind), Namespace: s.Namespace}
	if len(s.Names) == 1 {
		q.Name = s.Names[0]
	}
	if s.Kind == filter.KindNamespace {
		q.Namespace = q.Name
	}
	return q, s.Kind != filter.KindService
}

// AddUsage adds the answer to UsageQuery to the rows.
func AddUsage(rows []*StatRow, list *tapv1alpha1.ResourceList) {
	used := make(map[id]*tapv1alpha1.Usage, len(list.Items))
	for i := range list.Items {
		r := &list.Items[i]
		used[id{r.Kind, r.Namespace, r.Name}] = r.Usage
	}
	for _, r := range rows {
		r.Usage = used[id{r.Kind, r.Namespace, r.Name}]
	}
}

// rowOf returns the resource whose row an edge belongs to.
func (s *Stat) rowOf(f *tapv1alpha1.Figures, e *tapv1alpha1.Edge) (id, bool) {
	if s.Kind == filter.KindService {
		if e.Service == nil || s.Selector != "" {
			return id{}, false
		}
		key := id{string(filter.KindService), e.Service.Namespace, e.Service.Name}
		return key, s.about(key.kind, key.namespace, key.name)
	}
	end := s.end(e)
	if end < 0 || end >= len(f.Resources) {
		return id{}, false
	}
	r := &f.Resources[end]
	if s.Selector != "" && !r.Selected {
		return id{}, false
	}
	// With From, the clients' figures are of servers outside the mesh, too, and on a node
	// of those on other nodes.
	return id{r.Kind, r.Namespace, r.Name}, s.about(r.Kind, r.Namespace, r.Name) && (r.Meshed > 0 || r.Pods > 0 && s.Unmeshed || s.From != "")
}

// end returns the index of the end of an edge that has a row, if that is no Service.
func (s *Stat) end(e *tapv1alpha1.Edge) int {
	if s.To != "" {
		return e.Source
	}
	return e.Destination
}

// Missing returns those of Names that the answer to Query does not have. A workload that has
// no pod is among them.
func (s *Stat) Missing(f *tapv1alpha1.Figures) (names []string) {
	for _, name := range s.Names {
		there := slices.ContainsFunc(f.Resources, func(r tapv1alpha1.Resource) bool {
			return r.Kind == string(s.Kind) && r.Name == name && (s.Namespace == "" || r.Namespace == s.Namespace || r.Kind == figures.KindNamespace)
		}) || s.Kind == filter.KindService && slices.ContainsFunc(f.Edges, func(e tapv1alpha1.Edge) bool {
			return e.Service != nil && e.Service.Name == name
		})
		if !there {
			names = append(names, name)
		}
	}
	return names
}

func (s *Stat) about(kind, namespace, name string) bool {
	return kind == string(s.Kind) && (s.Namespace == "" || kind == figures.KindNamespace || namespace == s.Namespace) &&
		(len(s.Names) == 0 || slices.Contains(s.Names, name))
}

// sumsOf is the inverse of sumsJSON, as far as rows need it.
func sumsOf(s *tapv1alpha1.Sums) *figures.Sums {
	out := &figures.Sums{}
	if s == nil {
		return out
	}
	out.Success, out.Retries, out.Denied, out.Audited = s.Success, s.Retries, s.Denied, s.Audited
	for name, n := range s.Failures {
		out.Fail(mesh.ParseReason(name), n)
	}
	if s.Latency != nil {
		out.Latency = new(histogram.Histogram)
		for _, b := range s.Latency.Buckets {
			out.Latency.Add(int(b[0]), uint64(max(0, b[1])))
		}
	}
	if t := s.TCP; t != nil {
		out.Open, out.Opened, out.Closed, out.Failed = t.Open, t.Opened, t.Closed, t.Failed
		out.Read, out.Written, out.Retransmits = t.ReadBytes, t.WriteBytes, t.Retransmits
		if t.SRTT > 0 {
			// Weighted by the connections, of which each has been asked at about the same
			// rate.
			out.SRTTs = max(1, t.Closed+t.Open)
			out.SRTT = time.Duration(t.SRTT * float64(time.Millisecond) * float64(out.SRTTs))
			out.MinRTT = time.Duration(t.MinRTT * float64(time.Millisecond) * float64(out.SRTTs))
		}
	}
	return out
}

// Success returns the share of requests that succeeded, false if there were none.
func (r *StatRow) Success() (float64, bool) {
	n := r.Sums.Requests()
	if n == 0 {
		return 0, false
	}
	return float64(r.Sums.Success) / float64(n), true
}

// Rate returns n requests per second of the time that agents remember of the row.
func (r *StatRow) Rate(n uint64) float64 {
	return float64(n) / max(1, r.requests.seconds(r.seconds))
}

// byteRate is Rate for bytes.
func (r *StatRow) byteRate(n uint64) float64 { return float64(n) / max(1, r.tcp.seconds(r.seconds)) }

// MeshedText is the column MESHED.
func (r *StatRow) MeshedText() string {
	if r.Kind == string(filter.KindService) || r.Pods == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", r.Meshed, r.Pods)
}

// StatusText is the column STATUS of a pod. Linkerd's has the pod's phase, or why a container
// waits; the mesh only knows which pods are ready.
func (r *StatRow) StatusText() string {
	switch {
	case r.Pods == 0:
		return "-"
	case r.Ready == 0:
		return "NotReady"
	}
	return "Running"
}
