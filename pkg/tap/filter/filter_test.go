package filter

import (
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

var (
	web    = &mesh.Workload{UID: "w1", Name: "web-1", Namespace: "emojivoto", OwnerKind: "deployment", OwnerName: "web", Labels: "app=web"}
	voting = &mesh.Workload{UID: "v1", Name: "voting-1", Namespace: "emojivoto", OwnerKind: "deployment", OwnerName: "voting", Labels: "app=voting"}
	db     = &mesh.Workload{Name: "db-0", Namespace: "data", OwnerKind: "statefulset", OwnerName: "db"}
)

func request() *tap.Event {
	return &tap.Event{
		Kind: tap.RequestInit, Base: 1, Stream: 1,
		Source: tap.Peer{Workload: web}, Destination: tap.Peer{Workload: voting},
		Service: &mesh.Service{Name: "voting-svc", Namespace: "emojivoto"},
		Method:  "POST", Scheme: "http", Authority: "voting-svc.emojivoto:8080", Path: "/vote/Doughnut",
	}
}

func TestMatch(t *testing.T) {
	toDB := request()
	toDB.Destination.Workload = db
	toDB.Service = nil
	outside := request()
	outside.Source.Workload = nil
	tls := &tap.Event{Kind: tap.ConnOpen, Source: tap.Peer{Workload: web}, Protocol: "tls", SNI: "example.org"}

	leg := request()
	leg.Kind, leg.Side = tap.LegClose, tap.ServerSide

	for name, c := range map[string]struct {
		request Request
		event   *tap.Event
		want    bool
	}{
		"leg":                       {Request{Target: "deploy/web", Legs: true}, leg, true},
		"leg, not asked for":        {Request{Target: "deploy/web"}, leg, false},
		"everything":                {Request{}, request(), true},
		"everything, no workloads":  {Request{}, &tap.Event{}, true},
		"source":                    {Request{Target: "deploy/web"}, request(), true},
		"destination":               {Request{Target: "deploy/voting"}, request(), true},
		"neither":                   {Request{Target: "deploy/db"}, request(), false},
		"right name, wrong kind":    {Request{Target: "sts/web"}, request(), false},
		"kind only":                 {Request{Target: "sts"}, toDB, true},
		"kind only, absent":         {Request{Target: "sts"}, request(), false},
		"pod":                       {Request{Target: "po/voting-1"}, request(), true},
		"namespace as target":       {Request{Target: "ns/data"}, toDB, true},
		"namespace alone":           {Request{Namespace: "data"}, toDB, true},
		"namespace alone, absent":   {Request{Namespace: "data"}, request(), false},
		"wrong namespace":           {Request{Target: "deploy/web", Namespace: "data"}, request(), false},
		"service":                   {Request{Target: "svc/voting-svc"}, request(), true},
		"service unknown":           {Request{Target: "svc/voting-svc"}, toDB, false},
		"service is no source":      {Request{Target: "svc/voting-svc", To: "deploy/voting"}, request(), false},
		"one of its pods":           {Request{Target: "ns/emojivoto", Pods: map[string]bool{web.UID: true}}, request(), true},
		"none of its pods":          {Request{Target: "deploy/web", Pods: map[string]bool{voting.UID: true}}, request(), false},
		"no pods at all":            {Request{Target: "deploy/web", Pods: map[string]bool{}}, request(), false},
		"labels of the source":      {Request{Target: "ns/emojivoto", Selector: "app=web"}, request(), true},
		"labels of the destination": {Request{Target: "ns/emojivoto", Selector: "app=voting"}, request(), true},
		"labels of neither":         {Request{Target: "ns/emojivoto", Selector: "app=db"}, request(), false},
		"labels, and no label":      {Request{Selector: "!tier, app"}, outside, true},
		"labels and to":             {Request{Target: "ns/emojivoto", Selector: "app=voting", To: "deploy/voting"}, request(), false},
		"pods, not labels":          {Request{Pods: map[string]bool{web.UID: true}, Selector: "app=db"}, request(), true},
		"to":                        {Request{Target: "deploy/web", To: "deploy/voting"}, request(), true},
		"to, reversed":              {Request{Target: "deploy/voting", To: "deploy/web"}, request(), false},
		"to service":                {Request{Target: "deploy/web", To: "svc/voting-svc"}, request(), true},
		"to namespace of resource":  {Request{Target: "deploy/web", To: "sts/db", ToNamespace: "emojivoto"}, toDB, false},
		"to namespace alone":        {Request{Target: "deploy/web", ToNamespace: "data"}, toDB, true},
		"to without target":         {Request{To: "sts/db"}, toDB, true},
		"unknown source":            {Request{Target: "deploy/web"}, outside, false},
		"unknown source, any to":    {Request{To: "deploy/voting"}, outside, true},
		"method in lower case":      {Request{Method: "post"}, request(), true},
		"method differs":            {Request{Method: "GET"}, request(), false},
		"path prefix":               {Request{Path: "/vote/"}, request(), true},
		"path differs":              {Request{Path: "/api"}, request(), false},
		"authority":                 {Request{Authority: "voting-svc.emojivoto:8080"}, request(), true},
		"authority is no prefix":    {Request{Authority: "voting-svc"}, request(), false},
		"authority is the SNI":      {Request{Authority: "example.org"}, tls, true},
		"scheme":                    {Request{Scheme: "HTTP"}, request(), true},
		"scheme differs":            {Request{Scheme: "https"}, request(), false},
		"connection has no method":  {Request{Method: "GET"}, tls, false},
		"all of it":                 {Request{Target: "deploy/web", To: "deploy/voting", Method: "POST", Path: "/vote", Scheme: "http"}, request(), true},
		"all of it but the scheme":  {Request{Target: "deploy/web", To: "deploy/voting", Method: "POST", Path: "/vote", Scheme: "https"}, request(), false},
		"namespace of other target": {Request{Target: "deploy/db", Namespace: "emojivoto"}, toDB, false},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := New(c.request)
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Match(c.event); got != c.want {
				t.Errorf("Match = %v, want %v", got, c.want)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for _, r := range []Request{
		{Target: "web"},
		{Target: "deploy/"},
		{Target: "deploy/a b"},
		{Target: "ns/a", Namespace: "b"},
		{To: "pod/x/y"},
		{MaxRPS: -1},
	} {
		if _, err := New(r); err == nil {
			t.Errorf("New(%+v): got no error, want one", r)
		}
	}
}

// TestMaxRPS checks that a request is shown completely or not at all, and that
// the rate is kept.
func TestMaxRPS(t *testing.T) {
	f, err := New(Request{MaxRPS: 10})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Unix(1_700_000_000, 0)
	shown := 0
	for i := range 1000 { // 100 per second for 10 s, each of them lasts 5 s
		at := start.Add(time.Duration(i) * 10 * time.Millisecond)
		e := &tap.Event{Kind: tap.RequestInit, Base: 1, Stream: uint64(i), Time: at}
		init := f.Match(e)
		e.Kind = tap.ResponseInit
		rsp := f.Match(e)
		e.Kind, e.Time = tap.ResponseEnd, at.Add(5*time.Second)
		end := f.Match(e)
		if init != rsp || rsp != end {
			t.Fatalf("request %d: shown req %v, rsp %v, end %v; want all or none", i, init, rsp, end)
		}
		if init {
			shown++
		}
		e.Kind = tap.ResponseInit
		if f.Match(e) {
			t.Fatalf("request %d: an event after its end is shown, want it dropped", i)
		}
	}
	if shown < 105 || shown > 110 { // a burst of 10, then 10 per second
		t.Errorf("%d requests shown, want 105 to 110", shown)
	}
}

func TestMaxRPSConnections(t *testing.T) {
	f, err := New(Request{MaxRPS: 1})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000, 0)
	conn := func(kind tap.Kind, port uint16, d time.Duration) *tap.Event {
		return &tap.Event{
			Kind: kind, Time: at, Duration: d,
			Source: tap.Peer{Addr: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), port)},
		}
	}
	if !f.Match(conn(tap.ConnOpen, 1, 0)) || f.Match(conn(tap.ConnOpen, 2, 0)) {
		t.Error("opens of connections 1 and 2: want only the first shown")
	}
	if f.Match(conn(tap.ConnClose, 3, 0)) {
		t.Error("a failed connection without a token left: shown, want dropped")
	}
	if !f.Match(conn(tap.ConnClose, 1, time.Second)) || f.Match(conn(tap.ConnClose, 2, time.Second)) {
		t.Error("closes of connections 1 and 2: want only the first shown, like its open")
	}
	at = at.Add(time.Second)
	if !f.Match(conn(tap.ConnClose, 3, 0)) {
		t.Error("a failed connection with a token left: dropped, want shown")
	}
}

func TestMatchAllocates0(t *testing.T) {
	f, err := New(Request{Target: "deploy/web", To: "svc/voting-svc", Method: "POST", Path: "/vote"})
	if err != nil {
		t.Fatal(err)
	}
	e := request()
	if n := testing.AllocsPerRun(100, func() { f.Match(e) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func FuzzParseResource(f *testing.F) {
	for _, s := range []string{"", "deploy/web", "DEPLOY/web", "sts", "ns/a", "pod/", "a/b/c", "/", "svc/é"} {
		f.Add(s, "")
		f.Add(s, "default")
	}
	f.Fuzz(func(t *testing.T, text, namespace string) {
		r, err := ParseResource(text, namespace)
		if err != nil {
			return
		}
		again, err := ParseResource(r.String(), r.Namespace)
		if err != nil || again != r {
			t.Fatalf("%q: parsing %q gave %+v, %v; want %+v", text, r.String(), again, err, r)
		}
	})
}
