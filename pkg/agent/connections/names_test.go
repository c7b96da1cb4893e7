package connections

import (
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/tap"
)

// TestNamesAreKept: what a connection carries, and its end, count by the name that it was
// opened with, whoever carries it, also when that name is not known any more.
func TestNamesAreKept(t *testing.T) {
	for name, open := range map[string]tap.Event{
		"of the proxy": {Live: &fake{}, Outside: "api.example.com", SNI: "api.example.com"},
		"resolved":     {Live: &fake{}, DNS: "db.example.com"},
		"not proxied":  {Origin: tap.FromKernel, DNS: "db.example.com"},
	} {
		now := time.Unix(1_800_000_000, 0)
		table, memory, emit := newTable(now, nil)
		open.Kind, open.Time, open.Protocol = tap.ConnOpen, now, "tcp"
		open.Source, open.Destination = tap.Peer{Addr: webPort, Workload: web}, tap.Peer{Addr: netip.MustParseAddrPort("203.0.113.7:5432")}
		emit(open)
		if live, ok := open.Live.(*fake); ok {
			live.read.Store(7)
			table.grow(t.Context(), now.Add(time.Second), 1)
		}
		end := open
		end.Kind, end.ReadBytes, end.Duration = tap.ConnClose, 10, time.Minute
		if open.Origin == tap.FromKernel {
			end.DNS = ""
		}
		emit(end)
		r := memory.Query(figures.Query{Start: now, End: now.Add(5 * time.Second)}, now.Add(5*time.Second))
		if len(r.Edges) != 1 {
			t.Errorf("%s: %d pairs are counted, want 1: %+v", name, len(r.Edges), r.Edges)
			continue
		}
		if s := r.Edges[0].Total(); s.Opened != 1 || s.Closed != 1 || s.Open != 0 || s.Read != 10 {
			t.Errorf("%s: %+v, want one connection opened and closed, and 10 bytes read", name, s)
		}
	}
}
