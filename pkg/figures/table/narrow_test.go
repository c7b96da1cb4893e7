package table

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/tap"
)

// An answer of one namespace has no edge of another one, whatever an agent that lies, or is
// of another version, says of it.
func TestOneNamespace(t *testing.T) {
	end := func(namespace, name string) figures.End {
		e := figures.End{Namespace: namespace, Kind: "deployment", Name: name, Meshed: true}
		if name == "" {
			e.Kind, e.Name = figures.KindNamespace, namespace
		}
		return e
	}
	edge := func(source, destination figures.End, service figures.Service) figures.Edge {
		return figures.Edge{
			Key:    figures.Key{Source: source, Destination: destination, Service: service, Protocol: "http2", TLS: tap.TLSTrue},
			Points: []*figures.Sums{{Success: 1}},
		}
	}
	for by, edges := range map[string][]figures.Edge{
		tapv1alpha1.ByWorkload: {
			edge(end("shop", "web"), end("data", "db"), figures.Service{Namespace: "data", Name: "db"}),
			edge(end("jobs", "cron"), end("shop", "web"), figures.Service{}),
			edge(end("jobs", "cron"), figures.End{}, figures.Service{Namespace: "shop", Name: "web"}),
			edge(end("pay", "secret"), end("vault", "secret"), figures.Service{Namespace: "vault", Name: "secret"}),
			edge(end("pay", "secret"), figures.End{Kind: figures.KindExternal, Name: "secret.example"}, figures.Service{}),
		},
		tapv1alpha1.ByNamespace: {
			edge(end("shop", ""), end("data", ""), figures.Service{}),
			edge(end("jobs", ""), end("shop", ""), figures.Service{}),
			edge(end("jobs", ""), figures.End{}, figures.Service{Namespace: "shop", Name: "web"}),
			edge(end("pay", ""), end("vault", ""), figures.Service{}),
			edge(end("pay", ""), figures.End{Kind: figures.KindExternal, Name: "secret.example"}, figures.Service{}),
		},
	} {
		q := tapv1alpha1.FiguresQuery{By: by, Namespace: "shop", Side: tapv1alpha1.SideSource, Window: time.Minute}
		answers := &Answers{Asked: 1, Results: []*figures.Result{{Edges: edges}}}
		f := Merge(&q, answers, &Known{}, epoch)
		if n := requestsOf(f); n != 3 {
			t.Errorf("by %s: %d requests, want those of the first 3 edges", by, n)
		}
		for _, r := range f.Resources {
			if text := r.Namespace + "/" + r.Name; strings.Contains(text, "secret") || strings.Contains(text, "pay") || strings.Contains(text, "vault") {
				t.Errorf("by %s: the answer names %s", by, text)
			}
		}
		if diff := cmp.Diff([]string{"agents speak of pairs that have no part in namespace shop: not shown"}, f.Warnings); diff != "" {
			t.Errorf("by %s: warnings (-want +got):\n%s", by, diff)
		}
		q.Namespace = ""
		if f := Merge(&q, answers, &Known{}, epoch); requestsOf(f) != uint64(len(edges)) || len(f.Warnings) != 0 {
			t.Errorf("by %s: %d requests of all namespaces, warnings %q; want all %d", by, requestsOf(f), f.Warnings, len(edges))
		}
	}
}

func requestsOf(f *tapv1alpha1.Figures) (n uint64) {
	for _, e := range f.Edges {
		n += e.Total.Requests
	}
	return n
}
