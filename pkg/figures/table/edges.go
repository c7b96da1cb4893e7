package table

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/render"
)

// Edges is what the command edges is asked for: who talks to resources of one kind, and to
// whom these talk.
type Edges struct {
	Kind      filter.Kind
	Namespace string // "": all
	Query     tapv1alpha1.FiguresQuery
}

// NewEdges returns the question for a kind, with its query.
func NewEdges(kind filter.Kind, namespace string) *Edges {
	e := &Edges{Kind: kind, Namespace: namespace, Query: tapv1alpha1.FiguresQuery{
		By: tapv1alpha1.ByWorkload, Side: tapv1alpha1.SideSource, Namespace: namespace, Window: tapv1alpha1.DefaultWindow,
	}}
	switch kind {
	case filter.KindPod:
		e.Query.By = tapv1alpha1.ByPod
	case filter.KindNamespace:
		e.Query.By = tapv1alpha1.ByNamespace
	}
	return e
}

// EdgeRow is a row of edges. It also is its form in JSON: Linkerd's keys first.
type EdgeRow struct {
	Source               string `json:"src"`
	SourceNamespace      string `json:"src_namespace"`
	Destination          string `json:"dst"`
	DestinationNamespace string `json:"dst_namespace"`
	Client               string `json:"client_id"` // SERVICEACCOUNT.NAMESPACE, as Linkerd's
	Server               string `json:"server_id"`
	Why                  string `json:"no_tls_reason"`     // "": secured
	TLS                  string `json:"tls"`               // as in tap
	Denied               uint64 `json:"denied,omitempty"`  // by the server's policy
	Audited              uint64 `json:"audited,omitempty"` // likewise, if both are on one node or the client is outside the mesh
}

// Rows returns the rows of the answer to Query. Two resources that talk in several
// protocols have one row, and one more if not all of it is secured alike.
func (q *Edges) Rows(f *tapv1alpha1.Figures) []EdgeRow {
	type sum struct {
		tls             string
		denied, audited uint64
	}
	found := map[EdgeRow]sum{}
	for i := range f.Edges {
		e := &f.Edges[i]
		if e.Source < 0 || e.Source >= len(f.Resources) || e.Destination < 0 || e.Destination >= len(f.Resources) {
			continue
		}
		source, destination := &f.Resources[e.Source], &f.Resources[e.Destination]
		if !q.about(source) && !q.about(destination) {
			continue
		}
		row := EdgeRow{
			Source: q.name(source), SourceNamespace: source.Namespace,
			Destination: q.name(destination), DestinationNamespace: destination.Namespace,
			Why: e.SecuredWhy,
		}
		if e.Secured == tap.TLSTrue || e.Secured == tap.TLSSameNode {
			row.Client, row.Server = account(source.Identity), account(destination.Identity)
		}
		s := found[row]
		if s.tls != tap.TLSTrue { // of what is secured, the calls between nodes say more
			s.tls = e.Secured
		}
		if e.Total != nil {
			s.denied, s.audited = s.denied+e.Total.Denied, s.audited+e.Total.Audited
		}
		found[row] = s
	}
	rows := make([]EdgeRow, 0, len(found))
	for r, s := range found {
		r.TLS, r.Denied, r.Audited = s.tls, s.denied, s.audited
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b EdgeRow) int {
		return cmp.Or(cmp.Compare(a.SourceNamespace, b.SourceNamespace), cmp.Compare(a.DestinationNamespace, b.DestinationNamespace),
			cmp.Compare(a.Source, b.Source), cmp.Compare(a.Destination, b.Destination), cmp.Compare(a.Why, b.Why), cmp.Compare(a.TLS, b.TLS))
	})
	return rows
}

// about reports whether the question is about a resource.
func (q *Edges) about(r *tapv1alpha1.Resource) bool {
	return r.Kind == string(q.Kind) && (q.Query.Selector == "" || r.Selected)
}

// name is a resource's name, with its kind if that is another than what was asked for.
func (q *Edges) name(r *tapv1alpha1.Resource) string {
	switch {
	case r.Kind == string(q.Kind):
		return r.Name
	case r.Name == "", r.Kind == r.Name:
		return r.Kind
	}
	return short(r.Kind) + "/" + r.Name
}

// account shortens a SPIFFE ID to SERVICEACCOUNT.NAMESPACE.
func account(identity string) string {
	_, path, ok := strings.Cut(identity, "/ns/")
	namespace, name, ok2 := strings.Cut(path, "/sa/")
	if !ok || !ok2 {
		return identity
	}
	return name + "." + namespace
}

// WriteEdges writes the rows as a table with Linkerd's columns.
func WriteEdges(out io.Writer, rows []EdgeRow, wide bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	head := []string{"SRC", "DST", "SRC_NS", "DST_NS"}
	if wide {
		head = append(head, "CLIENT_ID", "SERVER_ID")
	}
	head = append(head, "SECURED")
	if wide {
		head = append(head, "DENIED", "AUDITED")
	}
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, r := range rows {
		cells := []string{r.Source, r.Destination, r.SourceNamespace, r.DestinationNamespace}
		if wide {
			cells = append(cells, r.Client, r.Server)
		}
		for i, text := range cells {
			cells[i] = cmp.Or(render.Clean(text), "-")
		}
		cells = append(cells, cmp.Or(r.Why, "√"))
		if wide {
			cells = append(cells, fmt.Sprint(r.Denied), fmt.Sprint(r.Audited))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// WriteEdgesJSON writes the rows as a JSON array.
func WriteEdgesJSON(out io.Writer, rows []EdgeRow) error {
	if rows == nil {
		rows = []EdgeRow{}
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(rows)
}
