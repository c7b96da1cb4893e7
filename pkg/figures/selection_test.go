package figures

import (
	"fmt"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/filter"
)

func TestSelectionJoins(t *testing.T) {
	s := NewStore(Options{}, epoch)
	for i := range 6 {
		e := request(pod("web", i%3, fmt.Sprint("node-", i%3)), pod("db", i%2, "node-9"), 200, time.Millisecond)
		e.Route, e.Rule = &mesh.Route{Kind: "HTTPRoute", Namespace: "shop", Name: "r"}, fmt.Sprint(i%2)
		s.Emit(e)
	}
	now := epoch.Add(time.Second)
	for name, tc := range map[string]struct {
		selection Selection
		want      int
	}{
		"pods": {Selection{}, 6}, "workloads": {Selection{By: ByWorkload}, 1}, "namespaces": {Selection{By: ByNamespace}, 1},
		"routes": {Selection{By: ByWorkload, Routes: true}, 2}, "another protocol": {Selection{Protocol: "grpc"}, 0},
	} {
		r := s.Query(Query{Start: epoch, End: now, Group: tc.selection.Group}, now)
		var requests uint64
		for _, e := range r.Edges {
			requests += e.Total().Requests()
		}
		if len(r.Edges) != tc.want || tc.want > 0 && requests != 6 {
			t.Errorf("%s: %d edges with %d requests, want %d with 6", name, len(r.Edges), requests, tc.want)
		}
	}
}

// TestSelectionMatches asks for one call, from web to db by the service data.
func TestSelectionMatches(t *testing.T) {
	end := func(deploy string) End {
		return End{Namespace: "shop", Kind: "deployment", Name: deploy, Pod: deploy + "-1", Meshed: true}
	}
	call := Key{Source: end("web"), Destination: end("db"), Service: Service{"shop", "data"}, TLS: "true"}
	unanswered := call
	unanswered.Destination = End{}
	of := func(text, namespace string) filter.Resource {
		r, err := filter.ParseResource(text, namespace)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tc := range []struct {
		key  Key
		s    Selection
		want bool
	}{
		{call, Selection{Of: of("deploy/web", "shop")}, true},
		{call, Selection{Of: of("deploy/db", "shop")}, true},
		{call, Selection{Of: of("deploy/db", "other")}, false},
		{call, Selection{Of: of("sts/db", "")}, false},
		{call, Selection{Of: of("ns/shop", "")}, true},
		{call, Selection{Of: of("ns/other", "")}, false},
		{call, Selection{Of: of("", "shop")}, true},
		{call, Selection{Of: of("", "other")}, false},
		{call, Selection{Of: of("svc/data", "shop")}, true},
		{call, Selection{Of: of("svc/db", "shop")}, false},
		{call, Selection{From: of("deploy/web", "")}, true},
		{call, Selection{From: of("deploy/db", "")}, false},
		{call, Selection{From: of("svc/data", "")}, false},
		{call, Selection{To: of("pod/db-1", "")}, true},
		{call, Selection{To: of("pod", "")}, true},
		{call, Selection{To: of("pod/web-1", "")}, false},
		{call, Selection{From: of("deploy", "shop"), To: of("svc", "shop")}, true},
		{unanswered, Selection{To: of("svc/data", "shop")}, true},
		{unanswered, Selection{To: of("deploy/db", "shop")}, false},
		{unanswered, Selection{To: of("ns/shop", "")}, true},
		{unanswered, Selection{To: of("", "shop")}, true},
	} {
		if _, got := tc.s.Group(tc.key); got != tc.want {
			t.Errorf("of %v from %v to %v: %v, want %v", tc.s.Of, tc.s.From, tc.s.To, got, tc.want)
		}
	}
}

// TestEachCallCountsOnce lists which of the two reports of a call counts.
func TestEachCallCountsOnce(t *testing.T) {
	meshed := End{Kind: "deployment", Node: "node-1", Meshed: true}
	in := Key{Direction: mesh.Inbound, TLS: "true", Source: meshed, Destination: meshed}
	out, bare, outside := in, in, in
	out.Direction, bare.TLS = mesh.Outbound, "no-identity"
	outside.Source, outside.TLS = End{Kind: KindExternal}, "no-identity"
	alone := func(*End) bool { return false }
	silent := map[string]bool{"node-1": true}
	for name, tc := range map[string]struct {
		key  Key
		s    Selection
		want bool
	}{
		"the client's":                           {out, Selection{Side: mesh.Outbound}, true},
		"the server's, too":                      {in, Selection{Side: mesh.Outbound}, false},
		"the server's, and no other is asked":    {in, Selection{Side: mesh.Outbound, Reports: alone}, true},
		"the server's by choice":                 {in, Selection{Side: mesh.Inbound}, true},
		"the client's beside it":                 {out, Selection{Side: mesh.Inbound}, false},
		"a client outside":                       {outside, Selection{Side: mesh.Outbound}, true},
		"a client that passed by its agent":      {bare, Selection{Side: mesh.Outbound}, true},
		"instead of the client's that is silent": {in, Selection{Side: mesh.Outbound, InsteadOf: silent}, true},
		"what was counted before":                {out, Selection{Side: mesh.Outbound, InsteadOf: silent}, false},
		"instead of another node's":              {in, Selection{Side: mesh.Outbound, InsteadOf: map[string]bool{"node-2": true}}, false},
	} {
		if _, got := tc.s.Group(tc.key); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// TestSelectionObserved: a call between pods that are observed on two nodes is reported by
// both agents, and counts once.
func TestSelectionObserved(t *testing.T) {
	s := NewStore(Options{}, epoch)
	client, server := *pod("web", 0, "node-1"), *pod("db", 0, "node-2")
	client.Meshed, client.Observed, server.Meshed, server.Observed = false, true, false, true
	for _, direction := range []mesh.Direction{mesh.Outbound, mesh.Inbound} {
		e := request(&client, &server, 200, time.Millisecond)
		e.TLS, e.Origin, e.Direction = tap.TLSNotProxied, tap.FromKernel, direction
		s.Emit(e)
	}
	now := epoch.Add(time.Second)
	r := s.Query(Query{Start: epoch, End: now}, now)
	var requests uint64
	for i := range r.Edges {
		if k := r.Edges[i].Key; (&Selection{Side: mesh.Inbound}).counts(&k) {
			requests += r.Edges[i].Total().Requests()
		}
	}
	if len(r.Edges) != 2 || requests != 1 {
		t.Errorf("%d edges with %d requests that count, want 2 with 1", len(r.Edges), requests)
	}
}
