package authzcmd

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/tap/render"
)

// row is a row of the table: the calls of one policy, or with wide of one client and request.
type row struct {
	first                            *tapv1alpha1.AuthzRow
	calls, denied, audited, ok, open uint64
}

// Write writes the list as a table. Rates are calls per second. wide has a row for each kind of
// client and request, with its numbers of calls; namespaces adds the column NAMESPACE.
func Write(out io.Writer, list *tapv1alpha1.AuthzList, wide, namespaces bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	head := []string{"NAME", "AUTHORIZATION", "RULE"}
	if wide {
		head = append(head, "VERDICT", "CLIENT", "PORT", "REQUEST", "CALLS", "OPEN")
	} else {
		head = append(head, "UNAUTHORIZED", "AUDITED", "SUCCESS", "RPS", "OPEN")
	}
	if namespaces {
		head = append([]string{"NAMESPACE"}, head...)
	}
	fmt.Fprintln(w, strings.Join(head, "\t"))
	var domains trustDomains
	for i := range list.Items {
		domains.add(&list.Items[i])
	}
	for _, r := range rows(list, wide) {
		cells := []string{r.first.Name, authz.ShortName(r.first.Object), cmp.Or(r.first.Rule, "-")}
		if r.first.Kind != "" {
			cells[0] = short(r.first.Kind) + "/" + r.first.Name
		}
		if r.first.Object == "" {
			cells[1] = r.first.Why
		}
		if wide {
			cells = append(cells, r.wide(&domains)...)
		} else {
			cells = append(cells, r.rates(max(list.Seconds, 1))...)
		}
		if namespaces {
			cells = append([]string{r.first.Namespace}, cells...)
		}
		for i := range cells {
			cells[i] = render.Clean(cells[i])
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// rows joins the items, which are sorted, unless wide is wanted.
func rows(list *tapv1alpha1.AuthzList, wide bool) (out []*row) {
	for i := range list.Items {
		item := &list.Items[i]
		last := len(out) - 1
		if wide || last < 0 || !same(out[last].first, item) {
			out = append(out, &row{first: item})
			last++
		}
		r := out[last]
		r.calls, r.open = r.calls+item.Calls, r.open+item.Open
		switch item.Verdict {
		case "denied":
			r.denied += item.Calls
		case "audited":
			r.audited += item.Calls
			fallthrough
		default:
			r.ok += item.Calls - min(item.Failed, item.Calls)
		}
	}
	return out
}

func same(a, b *tapv1alpha1.AuthzRow) bool {
	return a.Namespace == b.Namespace && a.Kind == b.Kind && a.Name == b.Name && a.Object == b.Object && a.Rule == b.Rule
}

func (r *row) rates(seconds float64) []string {
	if r.calls+r.open == 0 {
		return []string{"-", "-", "-", "-", "-"}
	}
	rate := func(n uint64) string { return fmt.Sprintf("%.1frps", float64(n)/seconds) }
	success := "-"
	if let := r.calls - r.denied; let > 0 {
		success = fmt.Sprintf("%.2f%%", 100*float64(r.ok)/float64(let))
	}
	return []string{rate(r.denied), rate(r.audited), success, rate(r.calls), fmt.Sprint(r.open)}
}

func (r *row) wide(domains *trustDomains) []string {
	f := r.first
	if f.Verdict == "" {
		return []string{"-", "-", "-", "-", "-", "-"}
	}
	return []string{f.Verdict, domains.client(f), cmp.Or(fmt.Sprint(f.Port), "-"), request(f), fmt.Sprint(f.Calls), fmt.Sprint(f.Open)}
}

// trustDomains knows whether the clients of some rows are of one trust domain.
type trustDomains struct {
	first   string
	several bool
}

func (d *trustDomains) add(f *tapv1alpha1.AuthzRow) {
	domain, _, _, ok := identity(f.Client)
	if ok && d.first == "" {
		d.first = domain
	}
	d.several = d.several || ok && domain != d.first
}

// client shortens a SPIFFE ID to SERVICEACCOUNT.NAMESPACE, with @TRUSTDOMAIN where there are
// several: accounts of one name are then of different clusters.
func (d *trustDomains) client(f *tapv1alpha1.AuthzRow) string {
	if f.Client == "" {
		return cmp.Or(f.Address, "(no identity)")
	}
	domain, namespace, name, ok := identity(f.Client)
	switch {
	case !ok:
		return f.Client
	case d.several:
		return name + "." + namespace + "@" + domain
	}
	return name + "." + namespace
}

// identity splits the SPIFFE ID of a service account.
func identity(id string) (domain, namespace, name string, ok bool) {
	before, rest, ok := strings.Cut(strings.TrimPrefix(id, "spiffe://"), "/ns/")
	namespace, name, ok2 := strings.Cut(rest, "/sa/")
	return before, namespace, name, ok && ok2
}

func request(f *tapv1alpha1.AuthzRow) string {
	if f.Method == "" {
		return "(connection)"
	}
	return f.Method + " " + f.Path
}

var shortKinds = map[string]string{
	"deployment": "deploy", "statefulset": "sts", "daemonset": "ds", "replicaset": "rs", "replicationcontroller": "rc", "cronjob": "cj", "pod": "po",
}

func short(kind string) string { return cmp.Or(shortKinds[kind], kind) }
