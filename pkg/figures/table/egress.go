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
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/render"
)

// EgressQuery returns the query for what the workloads of a namespace, "" for all, send
// outside the mesh.
func EgressQuery(namespace string) tapv1alpha1.FiguresQuery {
	return tapv1alpha1.FiguresQuery{
		By: tapv1alpha1.ByWorkload, Side: tapv1alpha1.SideSource, Namespace: namespace, Window: tapv1alpha1.DefaultWindow,
	}
}

// EgressRow is what a workload has sent to one destination outside the mesh, in one
// protocol. It also is its form in JSON.
type EgressRow struct {
	Namespace   string `json:"namespace"`
	Client      string `json:"client"`      // kind/name
	Destination string `json:"destination"` // name, HOST:PORT (see Addresses), ADDRESS:PORT, or the Service that leads there
	Service     bool   `json:"service,omitempty"`
	// Addresses are those of a destination whose name is from DNS, HOST:PORT. It is what the
	// client's resolver has said, and rules are about the addresses.
	Addresses   []string `json:"addresses,omitempty"`
	Protocol    string   `json:"protocol"`
	Requests    uint64   `json:"requests"`
	Success     uint64   `json:"success"`
	Connections uint64   `json:"connections"` // that were opened
	Failed      uint64   `json:"failed"`      // connections that were not
	Denied      uint64   `json:"denied"`      // requests that an EgressNetwork has refused
	// Folded: the client has so many destinations that those of this row have no names.
	Folded bool `json:"folded,omitempty"`
}

// Passed reports whether something of the row reached its destination, or failed for another
// reason than an EgressNetwork.
func (r *EgressRow) Passed() bool { return r.Requests > r.Denied || r.Connections > 0 }

// EgressRows returns the rows of the answer to EgressQuery.
func EgressRows(f *tapv1alpha1.Figures) []EgressRow {
	type key struct{ namespace, client, destination, protocol string }
	found := map[key]*EgressRow{}
	for i := range f.Edges {
		e := &f.Edges[i]
		if e.Source < 0 || e.Source >= len(f.Resources) || e.Destination < 0 || e.Destination >= len(f.Resources) || e.Total == nil {
			continue
		}
		source, destination := &f.Resources[e.Source], &f.Resources[e.Destination]
		if source.Kind == tapv1alpha1.KindExternal || !isOutside(destination, e.Total) {
			continue
		}
		row := EgressRow{
			Namespace: source.Namespace, Client: short(source.Kind) + "/" + source.Name, Destination: destination.Name, Protocol: e.Protocol,
			Folded: destination.Kind == tapv1alpha1.KindOther,
		}
		if destination.Kind == string(filter.KindService) {
			row.Destination, row.Service = "svc/"+destination.Namespace+"/"+destination.Name, true
		}
		k := key{row.Namespace, row.Client, row.Destination, row.Protocol}
		if found[k] == nil {
			found[k] = &row
		}
		r := found[k]
		for _, a := range e.Addresses {
			if i, there := slices.BinarySearch(r.Addresses, a); !there {
				r.Addresses = slices.Insert(r.Addresses, i, a)
			}
		}
		r.Requests, r.Success = r.Requests+e.Total.Requests, r.Success+e.Total.Success
		r.Denied += e.Total.Failures[mesh.ReasonEgressDenied.String()]
		if tcp := e.Total.TCP; tcp != nil {
			r.Connections, r.Failed = r.Connections+tcp.Opened, r.Failed+tcp.Failed
		}
	}
	rows := make([]EgressRow, 0, len(found))
	for _, r := range found {
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b EgressRow) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Client, b.Client),
			cmp.Compare(a.Destination, b.Destination), cmp.Compare(a.Protocol, b.Protocol))
	})
	return rows
}

// isOutside reports whether a destination is outside the mesh. A Service is one that has
// answered without a pod that is known, or that an EgressNetwork has refused.
func isOutside(to *tapv1alpha1.Resource, total *tapv1alpha1.Sums) bool {
	switch to.Kind {
	case tapv1alpha1.KindExternal, tapv1alpha1.KindOther:
		return true
	case string(filter.KindService):
		return total.Success > 0 || total.TCP != nil && total.TCP.Opened > 0 || total.Failures[mesh.ReasonEgressDenied.String()] > 0
	}
	return false
}

// WriteEgress writes the rows as a table.
func WriteEgress(out io.Writer, rows []EgressRow) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tCLIENT\tDESTINATION\tPROTOCOL\tREQUESTS\tSUCCESS\tDENIED\tCONNECTIONS\tFAILED")
	for _, r := range rows {
		success := "-"
		if r.Requests > 0 {
			success = fmt.Sprintf("%.2f%%", 100*float64(r.Success)/float64(r.Requests))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%d\t%d\t%d\n", render.Clean(r.Namespace), render.Clean(r.Client),
			cmp.Or(render.Clean(r.Destination), "-"), r.Protocol, r.Requests, success, r.Denied, r.Connections, r.Failed)
	}
	return w.Flush()
}

// WriteEgressJSON writes the rows as a JSON array.
func WriteEgressJSON(out io.Writer, rows []EgressRow) error {
	if rows == nil {
		rows = []EgressRow{}
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(rows)
}

// isHTTP reports whether a protocol is one of requests.
func isHTTP(protocol string) bool { return strings.HasPrefix(protocol, "http") || protocol == "grpc" }
