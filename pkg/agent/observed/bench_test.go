package observed

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
	"github.com/underlane/underlane/pkg/redirect/ringtest"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/telemetry"
)

// ended counts requests that have ended well, as they should.
type ended struct{ n atomic.Uint64 }

func (c *ended) Emit(e *tap.Event) {
	if e.Success() && e.Method != "" && e.Path != "" && e.Service != nil && e.Source.Workload != nil {
		c.n.Add(1)
	}
}

func (c *ended) Wants(k tap.Kind) bool { return k == tap.ResponseEnd }

// busy is an agent's whole way of what the kernel copies of observed connections: from the ring
// buffer to events of tap, and on to metrics and figures, which every agent has.
type busy struct {
	watch   *Watch
	records *ringtest.Writer
	traffic ringtest.Traffic
	counted ended
	at      uint64 // of counted
}

func newBusy(tb testing.TB, traffic func(n int, pod uint64) ringtest.Traffic) *busy {
	nstest.RequireRoot(tb)
	d, err := redirect.Load(redirect.Options{CgroupRoot: nstest.Cgroup(tb), PinRoot: nstest.BPFFS(tb), HeartbeatTimeout: time.Minute})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { d.Cleanup() })
	store := state.NewStore("n1")
	pod := &mesh.Workload{UID: "a", Namespace: "ns", Name: "client", Node: "n1", OwnerKind: "pod", OwnerName: "client", Observed: true, Addrs: []netip.Addr{ringtest.Client}}
	service := &mesh.Service{Namespace: "ns", Name: "server", VIPs: []netip.Addr{ringtest.Server}}
	err = store.Apply(state.Delta{Version: 1, Synced: true, Resources: []state.Resource{
		{Name: state.WorkloadName(pod.UID), Version: "1", Workload: pod},
		{Name: state.ServiceName("ns", "server"), Version: "1", Service: service},
	}})
	if err != nil {
		tb.Fatal(err)
	}
	b := new(busy)
	hub := tap.NewHub(telemetry.New(telemetry.Options{}), figures.NewStore(figures.Options{}, time.Now()), &b.counted)
	b.watch = New(Options{State: store, Finder: self{}, Controller: nobody{}, Tap: hub, Wanted: hub.Wanted, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	tb.Cleanup(func() {
		cancel()
		running.Wait()
	})
	running.Go(func() {
		if err := b.watch.Run(ctx, redirect.NewObserver(d)); err != nil {
			tb.Error(err)
		}
	})
	for b.watch.Status().Pods == 0 {
		time.Sleep(time.Millisecond)
	}
	own, err := self{}.Find("", nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer own.Close()
	b.traffic = traffic(64, own.Cookie())
	if err := ringtest.New(tb, b.traffic.Ring, b.traffic.Layout, b.traffic.First).Write(len(b.traffic.First)); err != nil {
		tb.Fatal(err)
	}
	b.records = ringtest.New(tb, b.traffic.Ring, b.traffic.Layout, b.traffic.Then)
	return b
}

// read reports whether all calls have ended that so many more records are of.
func (b *busy) read(written uint64) bool {
	calls := written / uint64(len(b.traffic.Then)/b.traffic.Calls)
	if b.counted.n.Load()-b.at < calls {
		return false
	}
	b.at += calls
	return true
}

// start waits until the first requests have ended, which calls of gRPC begin with.
func (b *busy) start() {
	for last := ^uint64(0); last != b.counted.n.Load(); time.Sleep(50 * time.Millisecond) {
		last = b.counted.n.Load()
	}
	b.at = b.counted.n.Load()
}

var traffics = map[string]func(n int, pod uint64) ringtest.Traffic{"http1": ringtest.Requests, "grpc": ringtest.Calls}

// TestBusy: all requests of connections that are always busy are seen, with their names.
func TestBusy(t *testing.T) {
	for name, traffic := range traffics {
		t.Run(name, func(t *testing.T) {
			b := newBusy(t, traffic)
			first := uint64(len(b.traffic.First) / b.traffic.Calls / 2) // requests of each connection
			eventually(t, "the first requests have ended", func() bool { return b.counted.n.Load() == first*uint64(b.traffic.Calls) })
			b.at = b.counted.n.Load()
			const portion = 1024
			if c := b.records.Portions(t, 50*portion, portion, b.read); c.Lost > 0 || c.Written != 50*portion {
				t.Errorf("%d records were written, and %d lost, want %d and none", c.Written, c.Lost, 50*portion)
			}
			if n := b.watch.Status().Counts; n.Gaps+n.Opaque+n.Refused+n.Dropped > 0 || n.Flows != b.traffic.Calls {
				t.Errorf("not everything was read: %+v", n)
			}
		})
	}
}

// BenchmarkRate is that of pkg/redirect, which only reads the records, with all that an agent makes
// of them.
func BenchmarkRate(b *testing.B) {
	const rate, portion = 1_000_000, 4096 // a portion makes less events than may wait
	for name, traffic := range traffics {
		b.Run(name, func(b *testing.B) {
			busy := newBusy(b, traffic)
			b.Run("portions", func(b *testing.B) {
				var cost ringtest.Cost
				for busy.start(); b.Loop(); {
					cost.Add(busy.records.Portions(b, 100*portion, portion, busy.read))
				}
				cost.Report(b)
			})
			b.Run("rate", func(b *testing.B) {
				var cost ringtest.Cost
				for busy.start(); b.Loop(); {
					cost.Add(busy.records.Rate(b, rate/portion*portion, rate, func(written uint64) bool { return busy.watch.Missed() > 0 || busy.read(written) }))
				}
				cost.Report(b)
				b.ReportMetric(float64(busy.watch.Missed()), "missed")
			})
		})
	}
}
