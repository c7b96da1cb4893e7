package l7proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// TestOutsiderIsOneClient: all events of a client outside the mesh name its pod, from the first
// on. A controller that does not answer is waited for once, also where the client says nothing
// at first, so that it may be an agent whose bytes are on their way. Who waits for it has no turn.
func TestOutsiderIsOneClient(t *testing.T) {
	for _, protocol := range []string{"HTTP/1", "HTTP/2", "opaque", "opaque, later"} {
		for _, answers := range []bool{true, false} {
			t.Run(fmt.Sprint(protocol, " answer=", answers), func(t *testing.T) {
				app, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				protocol, late := strings.CutSuffix(protocol, ", later")
				answer(t, protocol, app)
				g := guard(t, app.Addr().String())
				var asked atomic.Int32
				answer := func(ctx context.Context) error {
					asked.Add(1)
					g.noTurns(ctx)
					if !answers {
						<-ctx.Done()
						return ctx.Err()
					}
					client := &mesh.Workload{UID: "outsider", Name: "outsider", Node: "node-2", Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
					return g.store.Apply(state.Delta{Synced: true, Resources: []state.Resource{{Name: state.WorkloadName("outsider"), Version: "1", Workload: client}}})
				}
				g.proxy.State.(*proxytest.State).Answer.Store(&answer)
				for range 2 { // on a connection each
					if late {
						lateOne(t, g.addr.String(), func() bool { return asked.Load() > 0 })
						continue
					}
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

// TestUnknownDestinationWaitsAside: a connection to an address of which the controller has said
// nothing waits for it without a turn.
func TestUnknownDestinationWaitsAside(t *testing.T) {
	e := newEnv(t)
	if err := e.store.Apply(state.Delta{Version: 1, Synced: true}); err != nil {
		t.Fatal(err)
	}
	app, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answer(t, "HTTP/1", app)
	var asked atomic.Int32
	controller := func(ctx context.Context) error {
		asked.Add(1)
		e.noTurns(ctx)
		return nil
	}
	e.proxy.State.(*proxytest.State).Answer.Store(&controller)
	asker(t, "HTTP/1", e.to(app.Addr().String()))()
	if asked.Load() == 0 {
		t.Error("the controller was not waited for")
	}
}

// noTurns fails the test if turns are held until ctx is done.
func (e *env) noTurns(ctx context.Context) {
	for held, _ := e.proxy.Shares.Busy(); held != 0; held, _ = e.proxy.Shares.Busy() {
		if ctx.Err() != nil {
			e.t.Errorf("%d turns are held while the controller is waited for", held)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// lateOne is a client of the opaque server that says nothing until its time has come.
func lateOne(t *testing.T, addr string, come func() bool) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	proxytest.Eventually(t, "the client's time comes", come)
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, "\x00hello"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); string(got) != "hello" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
}
