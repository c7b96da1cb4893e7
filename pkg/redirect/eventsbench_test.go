package redirect

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/ringtest"
)

// BenchmarkRate reads records of the kernel as the agent does. In portions, as many come at once as
// the ring buffer has room for; at a rate, a million a second from another processor, for which
// the machine has to be quiet: then none may be lost. It reports the processor time of the process for each, in
// which everything is but the writer: polling and the collector, too. What the agent makes of the
// records is in pkg/agent/observed.
func BenchmarkRate(b *testing.B) {
	const rate, portion = 1_000_000, 8192
	for name, make := range map[string]func(n int, pod uint64) ringtest.Traffic{
		"connections": ringtest.Connections, "http1": ringtest.Requests, "grpc": ringtest.Calls,
	} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, mesh.Settings{})
			o := NewObserver(r.d)
			b.Cleanup(o.Close)
			if err := o.Observe(r.pod.Cookie(), All); err != nil {
				b.Fatal(err)
			}
			var seen atomic.Uint64
			ctx, cancel := context.WithCancel(b.Context())
			var reading sync.WaitGroup
			defer reading.Wait()
			defer cancel()
			reading.Go(func() {
				if err := r.d.ReadEvents(ctx, func(*Event) { seen.Add(1) }); err != nil {
					b.Error(err)
				}
			})
			reading.Go(func() {
				for ctx.Err() == nil {
					if n, _ := o.Read(func(*Observation) { seen.Add(1) }); n == 0 {
						time.Sleep(5 * time.Millisecond)
					}
				}
			})
			t := make(64, r.pod.Cookie())
			w := ringtest.New(b, t.Ring, t.Layout, t.Then)
			b.Run("portions", func(b *testing.B) {
				var cost ringtest.Cost
				for b.Loop() {
					before := seen.Load()
					cost.Add(w.Portions(b, 100*portion, portion, func(written uint64) bool {
						if seen.Load()-before < written {
							return false
						}
						before += written
						return true
					}))
				}
				cost.Report(b)
			})
			b.Run("rate", func(b *testing.B) {
				var cost ringtest.Cost
				for b.Loop() {
					before := seen.Load()
					cost.Add(w.Rate(b, rate, rate, func(written uint64) bool { return seen.Load()-before >= written }))
				}
				cost.Report(b)
			})
		})
	}
}
