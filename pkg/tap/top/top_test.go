package top

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

var epoch = time.Unix(1_700_000_000, 0)

func peer(pod, node, addr string) tap.Peer {
	p := tap.Peer{Addr: netip.MustParseAddrPort(addr)}
	if pod != "" {
		p.Workload = &mesh.Workload{Name: pod, Node: node}
	}
	return p
}

func end(path string, d time.Duration, status int) *tap.Event {
	return &tap.Event{
		Kind: tap.ResponseEnd, Time: epoch, Source: peer("web", "node-1", "10.0.0.1:999"), Destination: peer("voting", "node-2", "10.0.0.2:80"),
		Method: "GET", Path: path, Duration: d, Status: status,
	}
}

func conn(kind tap.Kind, d time.Duration, reason mesh.Reason) *tap.Event {
	return &tap.Event{
		Kind: kind, Time: epoch, Source: peer("web", "node-1", "10.0.0.1:999"), Destination: peer("", "", "192.0.2.1:443"),
		SNI: "example.org", Duration: d, Reason: reason, TLS: tap.TLSNotProxied,
	}
}

func sample(hideSources bool) *Table {
	t := NewTable(hideSources, 0)
	for _, e := range []*tap.Event{
		end("/a", 3*time.Millisecond, 200), end("/a", 250*time.Microsecond, 500), end("/a", 2*time.Second, 404),
		end("/b", time.Millisecond, 200),
		conn(tap.ConnOpen, 0, 0), conn(tap.ConnOpen, 0, 0), conn(tap.ConnClose, time.Second, 0),
		conn(tap.ConnClose, 0, mesh.ReasonRefused),
		{Kind: tap.ConnOpen, Time: epoch, Source: peer("", "", "10.9.9.9:1"), Destination: peer("db", "node-1", "10.0.0.3:3306")},
		{Kind: tap.RequestInit},
		{Kind: tap.ResponseInit},
	} {
		t.Add(e)
	}
	return t
}

func TestTable(t *testing.T) {
	for name, c := range map[string]struct {
		order string
		hide  bool
		want  string
	}{
		"by count": {"count", false, `
Source    Destination  Method  Path             Count   Best  Worst  Last  Success Rate
web       192.0.2.1    TCP     example.org:443      3     1s     1s    1s        50.00%
web       voting       GET     /a                   3  250µs     2s    2s        66.67%
10.9.9.9  db           TCP     :3306                1      -      -     -             -
web       voting       GET     /b                   1    1ms    1ms   1ms       100.00%
`},
		"failing first, no sources": {"success", true, `
Destination  Method  Path             Count   Best  Worst  Last  Success Rate
192.0.2.1    TCP     example.org:443      3     1s     1s    1s        50.00%
voting       GET     /a                   3  250µs     2s    2s        66.67%
db           TCP     :3306                1      -      -     -             -
voting       GET     /b                   1    1ms    1ms   1ms       100.00%
`},
		"reversed": {"-destination", true, `
Destination  Method  Path             Count   Best  Worst  Last  Success Rate
voting       GET     /a                   3  250µs     2s    2s        66.67%
voting       GET     /b                   1    1ms    1ms   1ms       100.00%
db           TCP     :3306                1      -      -     -             -
192.0.2.1    TCP     example.org:443      3     1s     1s    1s        50.00%
`},
	} {
		t.Run(name, func(t *testing.T) {
			order, err := ParseOrder(c.order)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			if err := sample(c.hide).WriteTable(&b, order); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, "\n"+b.String()); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryColumnSorts(t *testing.T) {
	table := sample(false)
	for c := range NumColumns {
		order, err := ParseOrder(names[c])
		if err != nil || order.By != c {
			t.Fatalf("ParseOrder(%q) = %+v, %v; want column %d", names[c], order, err, c)
		}
		rows := table.Rows(order)
		for i := 1; i < len(rows); i++ {
			if compare(c, &rows[i-1], &rows[i]) > 0 {
				t.Errorf("sorted by %s: got row %d %+v after %+v, want the reverse", names[c], i, rows[i], rows[i-1])
			}
		}
	}
	if order, err := ParseOrder("nothing"); err == nil {
		t.Errorf("ParseOrder of an unknown column = %+v, want an error", order)
	}
}

func TestJSON(t *testing.T) {
	var b strings.Builder
	table := sample(false)
	table.Lost = 5
	if err := table.WriteJSON(&b, Order{By: Count}); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Rows []jsonRow
		Lost uint64 `json:"lostEvents"`
	}
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	half := 0.5
	want := jsonRow{
		Source: "web", Destination: "192.0.2.1", Method: "TCP", Path: "example.org:443", Count: 3, BestMS: 1000, WorstMS: 1000, LastMS: 1000,
		Successes: 1, Failures: 1, SuccessRate: &half, Reasons: map[string]uint64{"refused": 1},
	}
	if diff := cmp.Diff(want, got.Rows[0]); diff != "" || got.Lost != 5 || len(got.Rows) != 4 {
		t.Errorf("%d rows and %d lost, want 4 and 5; first row (-want +got):\n%s", len(got.Rows), got.Lost, diff)
	}
}

// TestCloseWithoutOpen checks that a connection which was opened before the tap
// began is counted once, when it closes.
func TestCloseWithoutOpen(t *testing.T) {
	table := NewTable(false, 0)
	table.Add(conn(tap.ConnClose, time.Minute, 0))
	if rows := table.Rows(Order{}); len(rows) != 1 || rows[0].Count() != 1 {
		t.Errorf("got %+v, want one row with a count of 1", rows)
	}
}

func TestSameNodeCountsOnce(t *testing.T) {
	for name, c := range map[string]struct {
		origin tap.Origin
		tls    string
		meshed bool
		want   uint64
	}{
		"mutual TLS":            {tap.FromProxy, tap.TLSTrue, true, 1},
		"kernel":                {tap.FromKernel, tap.TLSNotProxied, true, 1},
		"unmeshed client":       {tap.FromProxy, tap.TLSNoIdentity, false, 2},
		"unmeshed client, bare": {tap.FromKernel, tap.TLSNotProxied, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			table := NewTable(false, 0)
			e := end("/", time.Millisecond, 200)
			e.TLS, e.Origin, e.Destination.Workload.Node, e.Source.Workload.Meshed = c.tls, c.origin, "node-1", c.meshed
			table.Add(e)
			e.Direction = mesh.Inbound
			table.Add(e)
			if n := table.Rows(Order{})[0].Count(); n != c.want {
				t.Errorf("counted %d times, want %d", n, c.want)
			}
		})
	}
}

func TestBound(t *testing.T) {
	table := NewTable(false, 100)
	for i := range 1000 {
		e := end(fmt.Sprintf("/%d", i), time.Millisecond, 200)
		e.Time = epoch.Add(time.Duration(i) * time.Second)
		table.Add(e)
		busy := end("/busy", time.Millisecond, 200) // seen all the time: never evicted
		busy.Time = e.Time
		table.Add(busy)
	}
	rows := table.Rows(Order{By: Count})
	if len(rows) > 100 || rows[0].Path != "/busy" || rows[0].Count() != 1000 {
		t.Errorf("%d rows, the first %+v; want up to 100, the first /busy with a count of 1000", len(rows), rows[0])
	}
	if uint64(len(rows))+table.Evicted != 1001 {
		t.Errorf("%d rows and %d evicted, want 1001 together", len(rows), table.Evicted)
	}
}

// TestByRoute: a row for each route and rule, as Linkerd's top --routes; connections have none.
func TestByRoute(t *testing.T) {
	table := NewTable(true, 0)
	table.ByRoute = true
	for i, path := range []string{"/a", "/b", "/c"} {
		e := end(path, time.Millisecond, 200+300*(i/2))
		e.Route, e.Rule = &mesh.Route{Kind: "HTTPRoute", Namespace: "shop", Name: "canary"}, "0"
		table.Add(e)
	}
	table.Add(end("/d", time.Millisecond, 200))
	table.Add(conn(tap.ConnOpen, 0, 0))
	table.Add(conn(tap.ConnClose, time.Second, 0))
	var out bytes.Buffer
	if err := table.WriteTable(&out, Order{By: Count}); err != nil {
		t.Fatal(err)
	}
	want := "Destination  Route      Count  Best  Worst  Last  Success Rate\n" +
		"voting       canary/0       3   1ms    1ms   1ms        66.67%\n" +
		"voting       [DEFAULT]      1   1ms    1ms   1ms       100.00%\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	if err := table.WriteJSON(&out, Order{By: Count}); err != nil || !strings.Contains(out.String(), `"route": "canary/0"`) || strings.Contains(out.String(), `"path": "canary`) {
		t.Errorf("%v: %s", err, out.String())
	}
}
