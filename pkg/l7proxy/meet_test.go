package l7proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// TestOutsiderIsOneClient: all events of a client outside the mesh name its pod, from the first
// on. A controller that does not answer is waited for once.
func TestOutsiderIsOneClient(t *testing.T) {
	for _, protocol := range []string{"HTTP/1", "HTTP/2", "opaque"} {
		for _, answers := range []bool{true, false} {
			t.Run(fmt.Sprint(protocol, " answer=", answers), func(t *testing.T) {
				app, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				answer(t, protocol, app)
				g := guard(t, app.Addr().String())
				var asked atomic.Int32
				answer := func(ctx context.Context) error {
					if asked.Add(1); !answers {
						<-ctx.Done()
						return ctx.Err()
					}
					client := &mesh.Workload{UID: "outsider", Name: "outsider", Node: "node-2", Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
					return g.store.Apply(state.Delta{Synced: true, Resources: []state.Resource{{Name: state.WorkloadName("outsider"), Version: "1", Workload: client}}})
				}
				g.proxy.State.(*proxytest.State).Answer.Store(&answer)
				for range 2 { // on a connection each
					asker(t, protocol, g.addr.String())()
				}
				for _, event := range g.tap.Events() {
					if known := event.Source.Workload != nil; event.Side != tap.ServerSide && known != answers {
						t.Errorf("event %d: the client is %v, want it known: %v", event.Kind, event.Source.Workload, answers)
					}
				}
				if n := asked.Load(); n != 1 {
					t.Errorf("the controller was waited for %d times, want once", n)
				}
			})
		}
	}
}
