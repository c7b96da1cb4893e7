package calls

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

var (
	web    = mesh.Identity{TrustDomain: "td", Namespace: "shop", ServiceAccount: "web"}
	server = &mesh.Workload{UID: "1", Namespace: "shop", Name: "api-1", OwnerKind: "deployment", OwnerName: "api"}
	client = netip.MustParseAddr("10.0.0.1")
	denied = authz.Decision{Outcome: authz.Outcome{Why: authz.WhyUnmatched}, Group: "Server.policy.linkerd.io shop/api"}
	all    = func(*mesh.Workload) bool { return true }
)

type clock struct{ time.Time }

func newStore() (*Store, *clock) {
	c := &clock{time.Unix(1_000_000_000, 0)}
	return New(func() time.Time { return c.Time }), c
}

func (s *Store) call(w *mesh.Workload, id mesh.Identity, from netip.Addr, method, path string) *Entry {
	var r *authz.Request
	if method != "" {
		r = &authz.Request{Method: method, Authority: "API.shop:80", Path: path}
	}
	return s.Judged(w, &authz.Connection{Client: from, Port: 80}, id, r, &denied)
}

func TestTemplate(t *testing.T) {
	for path, want := range map[string]string{
		"/":                   "/",
		"/charge":             "/charge",
		"/charge?card=1":      "/charge",
		"/v1/users/17/orders": "/v1/users/{*}/orders",
		"/a/0b6e2a8c-6f1f-4cb4-9a8e-2b2f4f1d4a11": "/a/{*}",
		"/mail/me@example.com":                    "/mail/{*}",
		"/shop.v1.Cart/AddItem":                   "/shop.v1.Cart/AddItem",
		"/a/":                                     "/a/",
		"/a//b":                                   AnyPath,
		"/a/../b":                                 AnyPath,
		"/a%2fb":                                  AnyPath,
		"/{**}":                                   AnyPath,
		"*":                                       AnyPath,
		"":                                        AnyPath,
		"/a\nb":                                   AnyPath,
	} {
		var buf [maxPath]byte
		if got := template(&buf, path); got != want {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
	if got := hostOf(new([maxHost]byte), "[FE::1]:80") + " " + hostOf(new([maxHost]byte), "u@x") + "." + methodOf("get"); got != "[fe::1] .*" {
		if got != "fe::1 .*" {
			t.Errorf("hosts and methods: got %q", got)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"/", "/a/1", "/a//b?c", "/{*}", "/%2e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		var buf [maxPath]byte
		got := template(&buf, path)
		if len(got) == 0 || len(got) > maxPath || got[0] != '/' {
			t.Fatalf("%q: got %q", path, got)
		}
		_, problems := authz.Compile([]authz.Policy{{Action: authz.ActionAllow, Rules: []authz.Rule{
			{To: []authz.Operation{{Paths: []authz.Match{{Kind: authz.Template, Value: got}}}}},
		}}}, authz.Options{})
		if len(problems) > 0 {
			t.Fatalf("%q: %q is no template: %v", path, got, problems)
		}
	})
}

func TestStore(t *testing.T) {
	s, now := newStore()
	s.call(server, web, client, "GET", "/users/1")
	s.Failed(s.call(server, web, client, "GET", "/users/2?x=y"))
	s.call(server, web, netip.MustParseAddr("10.0.0.2"), "", "")
	s.call(server, web, client, "", "").Opened()
	want := []Call{
		{Key{Client: web, Port: 80}, nil, server, netip.Addr{}, 2, 0, 1},
		{Key{Client: web, Port: 80, Method: "GET", Host: "api.shop", Path: "/users/{*}"}, nil, server, client, 2, 1, 0},
	}
	check := func(what string, window time.Duration, want []Call) {
		t.Helper()
		got := s.List(window, all).Calls
		for i := range got {
			if text := got[i].Finding.Verdict() + " by " + got[i].Finding.Object; text != "denied by Server.policy.linkerd.io shop/api" {
				t.Errorf("%s: got %s", what, text)
			}
			got[i].Finding = nil
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s, -want +got:\n%s", what, diff)
		}
	}
	check("now", time.Minute, want)
	now.Time = now.Add(10 * time.Minute)
	want[0].Calls = 0
	check("later", time.Minute, want[:1])
	want[0].Calls = 2
	check("all", Kept, want)
	now.Time = now.Add(10 * time.Minute)
	want[0].Calls = 0
	check("much later", Kept, want[:1])
	if diff := cmp.Diff(map[Total]uint64{{"shop", "deployment", "api", "Server.policy.linkerd.io shop/api", "", "denied"}: 4}, s.Totals()); diff != "" {
		t.Error("totals, -want +got:", diff)
	}
	if got := s.List(Kept, func(*mesh.Workload) bool { return false }).Calls; len(got) > 0 {
		t.Errorf("of no pod: got %v", got)
	}
}

// TestBounds: a client that sends much that is different takes its server's place only, and
// old calls make room.
func TestBounds(t *testing.T) {
	s, now := newStore()
	const strangers = 3000
	for i := range strangers {
		s.call(server, mesh.Identity{}, netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), fmt.Sprintf("M%c%c", 'A'+i%26, 'A'+i/26%26), fmt.Sprintf("/w%c%c%c", 'a'+i%26, 'a'+i/26%26, 'a'+i/676))
	}
	if n := len(s.pods["1"].calls); n > podPrecise+podFolded {
		t.Errorf("a pod has %d entries, want at most %d", n, podPrecise+podFolded)
	}
	var total uint64
	for _, c := range s.List(Kept, all).Calls {
		total += c.Calls
	}
	if lost := s.List(Kept, all).Lost; total+lost != strangers {
		t.Errorf("%d calls and %d lost, want %d in all", total, lost, strangers)
	}
	pods := map[string]*mesh.Workload{}
	for i := range 200 {
		w := *server
		w.UID, w.Name = fmt.Sprint("p", i), fmt.Sprint("p", i)
		pods[w.UID] = &w
		for j := range 20 {
			s.call(&w, web, client, "GET", fmt.Sprintf("/x%c", 'a'+j))
		}
		if i < 50 && s.pods[w.UID].precise < fewPrecise {
			t.Fatalf("pod %d has %d entries, want %d", i, s.pods[w.UID].precise, fewPrecise)
		}
	}
	if s.entries > allEntries || s.Size() > 2<<20 {
		t.Errorf("there are %d entries of %d bytes, want at most %d of 2 MiB", s.entries, s.Size(), allEntries)
	}
	if len(s.Totals()) > maxTotals+3 {
		t.Errorf("there are %d counters", len(s.Totals()))
	}
	now.Time = now.Add(time.Hour)
	s.List(Kept, all)
	if s.entries != 0 || len(s.pods) != 0 {
		t.Errorf("after an hour there are %d entries of %d pods", s.entries, len(s.pods))
	}
}

func TestJudgedAllocatesNothing(t *testing.T) {
	s, _ := newStore()
	c := &authz.Connection{Client: client, Port: 80}
	r := &authz.Request{Method: "GET", Authority: "API.shop:80", Path: "/users/1?x"}
	if n := testing.AllocsPerRun(100, func() { s.Judged(server, c, web, r, &denied) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { s.Judged(server, c, mesh.Identity{}, nil, &denied) }); n != 0 {
		t.Errorf("%v allocations for a connection", n)
	}
}

func BenchmarkJudged(b *testing.B) {
	s, _ := newStore()
	c := &authz.Connection{Client: client, Port: 80}
	r := &authz.Request{Method: "GET", Authority: "API.shop:80", Path: "/users/1?x"}
	b.ReportAllocs()
	for range b.N {
		s.Judged(server, c, web, r, &denied)
	}
}
