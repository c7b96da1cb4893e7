package filter_test

import (
	"fmt"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/filter"
)

var (
	web    = &mesh.Workload{UID: "1", Name: "web-1", Namespace: "shop", OwnerKind: "deployment", OwnerName: "web"}
	voting = &mesh.Workload{UID: "2", Name: "voting-1", Namespace: "shop", OwnerKind: "deployment", OwnerName: "voting"}
)

func ExampleNew() {
	_, err := filter.New(filter.Request{Target: "deploy/"})
	fmt.Println(err)
	// Output: resource "deploy/": a name must follow the slash
}

func ExampleFilter_Match() {
	f, err := filter.New(filter.Request{Target: "deploy/web", To: "deploy/voting", Path: "/vote"})
	if err != nil {
		panic(err)
	}
	e := &tap.Event{
		Kind: tap.RequestInit, Source: tap.Peer{Workload: web}, Destination: tap.Peer{Workload: voting},
		Method: "POST", Path: "/vote/doughnut",
	}
	fmt.Println(f.Match(e))
	e.Path = "/list"
	fmt.Println(f.Match(e))
	// Output:
	// true
	// false
}

// Mutual TLS between two nodes is reported by both agents. View says which of
// the reports to show.
func ExampleView() {
	out := &tap.Event{
		Kind: tap.RequestInit, Direction: mesh.Outbound, TLS: tap.TLSTrue,
		Source: tap.Peer{Workload: web}, Destination: tap.Peer{Workload: voting},
	}
	in := *out
	in.Direction = mesh.Inbound
	for _, view := range []filter.View{filter.Both, filter.TargetSide, filter.Once} {
		f, err := filter.New(filter.Request{Target: "ns/shop", View: view})
		if err != nil {
			panic(err)
		}
		fmt.Println(f.Match(out), f.Match(&in))
	}
	// Output:
	// true true
	// true true
	// true false
}

func ExampleParseResource() {
	r, err := filter.ParseResource("deployments/web", "shop")
	fmt.Println(r, r.Namespace, err)
	_, err = filter.ParseResource("web", "")
	fmt.Println(err)
	// Output:
	// deployment/web shop <nil>
	// resource "web": no kind "web": use deploy, sts, ds, rs, rc, job, cronjob, pod, ns or svc, as in deploy/web
}

func ExampleResource_Matches() {
	r, err := filter.ParseResource("deploy/web", "")
	if err != nil {
		panic(err)
	}
	fmt.Println(r.Matches(web), r.Matches(voting))
	// Output: true false
}

func ExampleLimiter() {
	l := filter.NewLimiter(1) // one request or connection per second
	start := time.Unix(1_700_000_000, 0)
	first := &tap.Event{Kind: tap.RequestInit, Base: 1, Stream: 1, Time: start}
	second := &tap.Event{Kind: tap.RequestInit, Base: 1, Stream: 2, Time: start}
	fmt.Println(l.Allow(0, first), l.Allow(0, second))
	// All events of a request share the fate of its first one.
	first.Kind, second.Kind = tap.ResponseEnd, tap.ResponseEnd
	fmt.Println(l.Allow(0, first), l.Allow(0, second))
	// Output:
	// true false
	// true false
}
