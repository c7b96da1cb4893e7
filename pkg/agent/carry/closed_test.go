package carry

import (
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
)

// deleted makes the state say that the pod is being deleted.
func (r *rig) deleted() {
	r.t.Helper()
	w := *r.workload
	w.Ready, w.Terminating = false, true
	r.set(nil, r.tells(&w))
}

// The kernel refuses connections to a pod that is being deleted, has refused a connection
// and listens nowhere, as it does without the mesh. Connections that it has, and those that
// it opens, are carried. Any other pod that refuses a connection may accept the next one.
func TestPodThatListensNoMore(t *testing.T) {
	for name, c := range map[string]struct {
		deleted bool
		listens netip.Addr // where the pod still listens, if that is valid
		refuses bool
	}{
		"it starts":                               {false, netip.Addr{}, false},
		"deleted, and listens at another port":    {true, podAddr, false},
		"deleted, and listens at loopback":        {true, netip.MustParseAddr("127.0.0.1"), true},
		"deleted, and listens at the unspecified": {true, netip.IPv4Unspecified(), false},
		"deleted, and listens nowhere":            {true, netip.Addr{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := &handler{began: make(chan *rawio.Conn, 8), release: make(chan struct{})}
			r := newRig(t, h)
			defer close(h.release)
			network := NewNetwork(r.Carrier)
			r.set(nil, r.tells(r.workload))
			e := r.enrol()
			if c.listens.IsValid() {
				r.listenIn(r.pod, c.listens)
			}
			before, err := dial(t, r.peer, netip.AddrPortFrom(podAddr, 8080))
			if err != nil {
				t.Fatal(err)
			}
			defer before.Close()
			accepted := <-h.began
			if c.deleted {
				r.deleted()
			}

			app, client := netip.AddrPortFrom(podAddr, 8080), netip.AddrPortFrom(peerAddr, 1)
			for range 2 { // the second follows at once
				_, err := network.DialApp(t.Context(), "uid-a", app, client)
				if gone := reasonOf(err) == mesh.ReasonPodGone; gone != c.refuses || !gone && !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("a connection into the pod: %v, want that it has ended: %v", err, c.refuses)
				}
			}
			if repaired, err := r.d.Repair(); err != nil || len(repaired) > 0 {
				t.Errorf("repaired %q, %v; want nothing", repaired, err)
			}
			later, err := dial(t, r.peer, app)
			if err == nil {
				defer later.Close()
				<-h.began
			}
			if got := errors.Is(err, unix.ECONNREFUSED); got != c.refuses {
				t.Errorf("a client from outside: %v, want that it is refused: %v", err, c.refuses)
			}
			if cutConn(accepted) {
				t.Error("a connection that was there is cut")
			}
			out, err := dial(t, r.pod, netip.AddrPortFrom(peerAddr, 80))
			if err != nil {
				t.Fatalf("a connection that the pod opens: %v, want that the agent accepts it", err)
			}
			defer out.Close()
			<-h.began
			r.retire(e)
		})
	}
}

// When the runtime has stopped the sandbox of a pod that is being deleted, its clients are
// told, and the kernel refuses new ones until the pod's network is removed.
func TestStoppedSandboxRefuses(t *testing.T) {
	h := &answering{app: make(chan *rawio.Conn, 1), began: make(chan struct{}, 1)}
	r := newRig(t, h)
	r.farewell = 2 * time.Second // ample for an answer on a busy machine
	r.set(nil, r.tells(r.workload))
	e := r.enrol()
	client, err := dial(t, r.peer, netip.AddrPortFrom(podAddr, 8080))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	h.app <- nil // the application has ended
	<-h.began
	r.deleted()
	r.SandboxEnded("uid-a", e.Cookie())
	_ = client.SetReadDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(client); string(got) != "gone" || !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client reads %q, then %v; want %q and a reset", got, err, "gone")
	}
	if late, err := dial(t, r.peer, netip.AddrPortFrom(podAddr, 8080)); !errors.Is(err, unix.ECONNREFUSED) {
		if err == nil {
			late.Close()
		}
		t.Errorf("another client: %v, want %v", err, unix.ECONNREFUSED)
	}
}

// TestRefuseIsOver: a pod that is enrolled again accepts connections again.
func TestRefuseIsOver(t *testing.T) {
	h := &handler{began: make(chan *rawio.Conn, 1)}
	r := newRig(t, h)
	e := r.enrol()
	if err := e.Refuse(); err != nil {
		t.Fatal(err)
	}
	r.retire(e)
	r.enrol()
	c, err := dial(t, r.peer, netip.AddrPortFrom(podAddr, 8080))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-h.began
}
