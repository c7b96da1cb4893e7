package carry

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/underlane/underlane/pkg/state"
)

func (r *rig) tells(w *mesh.Workload) state.Resource {
	return state.Resource{Name: state.WorkloadName(w.UID), Workload: w}
}

// cutConn reports whether the connection has ended: nobody but the Carrier does that.
func cutConn(c *rawio.Conn) bool {
	_, err := c.Write([]byte("x"))
	return err != nil
}

// reasonOf is the reason that err carries.
func reasonOf(err error) mesh.Reason {
	said, _ := errors.AsType[*mesh.ReasonError](err)
	if said == nil {
		return mesh.ReasonNone
	}
	return said.Reason
}

// follows waits until the Carrier has followed the state as it is now.
func follows(r *rig) {
	r.t.Helper()
	until(r.t, "the Carrier has followed the state", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, p := range r.pods {
			if _, known := r.state.View().WorkloadByUID(p.UID); p.known != known {
				return false
			}
		}
		return true
	})
}

// listenIn accepts in ns, and keeps what it accepts to the end of the test.
func (r *rig) listenIn(ns *netns.NS, addr netip.Addr) (netip.AddrPort, chan *rawio.Conn) {
	r.t.Helper()
	l, err := ns.Listen(addr, 0, redirect.Mark)
	if err != nil {
		r.t.Fatal(err)
	}
	accepted := make(chan *rawio.Conn, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	r.t.Cleanup(func() {
		l.Close()
		<-done
		for c := range accepted {
			c.Close()
		}
	})
	return l.Addr(), accepted
}

// All connections of a pod end with it, and at once: accepted and dialled ones, from
// it and to it. What says so is the state, or the runtime. A pod that is being
// deleted, or that leaves the mesh, keeps them.
func TestPodEnds(t *testing.T) {
	for name, how := range map[string]struct {
		what func(r *rig, e *redirect.Pod)
		ends bool
	}{
		"the state has it no more": {func(r *rig, _ *redirect.Pod) { r.set([]string{state.WorkloadName("uid-a")}) }, true},
		"it left the mesh, then the state has it no more": {func(r *rig, e *redirect.Pod) {
			r.retire(e)
			r.set([]string{state.WorkloadName("uid-a")})
		}, true},
		"its sandbox stops": {func(r *rig, e *redirect.Pod) { r.SandboxEnded("uid-a", e.Cookie()) }, true},
		"its sandbox stops, then the state has it no more": {func(r *rig, e *redirect.Pod) {
			r.SandboxEnded("uid-a", e.Cookie())
			r.set([]string{state.WorkloadName("uid-a")})
		}, true},
		"another sandbox of it stops": {func(r *rig, e *redirect.Pod) {
			r.SandboxEnded("uid-a", e.Cookie()+1)
			r.SandboxEnded("uid-b", e.Cookie())
		}, false},
		"it is being deleted": {func(r *rig, _ *redirect.Pod) {
			w := *r.workload
			w.Ready = false
			r.set(nil, r.tells(&w))
		}, false},
		"it leaves the mesh": {func(r *rig, e *redirect.Pod) { r.retire(e) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := &handler{began: make(chan *rawio.Conn), release: make(chan struct{})}
			r := newRig(t, h)
			network := NewNetwork(r.Carrier)
			r.set(nil, r.tells(r.workload))
			e := r.enrol()
			there, _ := r.listenIn(r.peer, peerAddr)
			app, _ := r.listenIn(r.pod, podAddr)

			inbound, err := dial(t, r.peer, netip.AddrPortFrom(podAddr, 8080))
			if err != nil {
				t.Fatal(err)
			}
			defer inbound.Close()
			conns := map[string]*rawio.Conn{"accepted, to the pod": <-h.began}
			outbound, err := dial(t, r.pod, there)
			if err != nil {
				t.Fatal(err)
			}
			defer outbound.Close()
			conns["accepted, from the pod"] = <-h.began
			if conns["dialled, from the pod"], err = network.Dial(t.Context(), "uid-a", there); err != nil {
				t.Fatal(err)
			}
			if conns["dialled, into the pod"], err = network.DialApp(t.Context(), "uid-a", app, there); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			how.what(r, e)
			if !how.ends {
				time.Sleep(200 * time.Millisecond) // nothing is to happen
			}
			for which, c := range conns {
				if how.ends {
					until(t, which+" is cut", func() bool { return cutConn(c) })
				} else if cutConn(c) {
					t.Errorf("a connection was cut: %s", which)
				}
			}
			if took := time.Since(began); how.ends && took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			if how.ends { // the other ends hear of it
				for _, c := range []*rawio.Conn{inbound, outbound} {
					_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
					if _, err := io.Copy(io.Discard, c); !errors.Is(err, unix.ECONNRESET) {
						t.Errorf("the other end: %v, want a reset", err)
					}
				}
				if _, err := network.DialApp(t.Context(), "uid-a", app, there); reasonOf(err) != mesh.ReasonPodGone {
					t.Errorf("another connection into it: %v, want %s", err, mesh.ReasonPodGone)
				}
				if _, err := network.Dial(t.Context(), "uid-a", there); reasonOf(err) != mesh.ReasonClientReset {
					t.Errorf("another connection from it: %v, want %s", err, mesh.ReasonClientReset)
				}
				if _, err := network.carrier.endpoint(podAddr); reasonOf(err) != mesh.ReasonPodGone {
					t.Errorf("another pod dials the address: %v, want %s", err, mesh.ReasonPodGone)
				}
			}
			follows(r)
			if got := network.Gone(podAddr); got != how.ends {
				t.Errorf("the pod is gone: %v, want %v", got, how.ends)
			}
			for _, c := range conns {
				c.Close()
			}
			close(h.release)
			r.CloseListeners()
			r.drain()
			until(t, "nothing is left", func() bool {
				r.mu.Lock()
				defer r.mu.Unlock()
				return len(r.pods[e].connsOf()) == 0
			})
		})
	}
}

func (p *pod) connsOf() []*rawio.Conn {
	if p == nil {
		return nil
	}
	return appendKeys(appendKeys(nil, p.conns), p.callers)
}

// answering plays the proxy: it answers a client when the connection to the pod's
// application ends.
type answering struct {
	handler
	app   chan *rawio.Conn
	began chan struct{}
}

func (h *answering) Turns(*mesh.Workload, mesh.Direction) *fairshare.Task { return nil }

func (h *answering) ServeInbound(c *rawio.Conn, _ *mesh.Workload) func(func(any, []byte)) {
	app := <-h.app // nil: it has ended
	h.began <- struct{}{}
	if app != nil {
		_, _ = io.Copy(io.Discard, app)
	}
	_, _ = c.Write([]byte("gone"))
	_, _ = io.Copy(io.Discard, c)
	return nil
}

// A client of a pod that ends is told, and cut after that; and so is a client that comes
// later, while the pod's network is there.
func TestClientsAreToldThatThePodHasEnded(t *testing.T) {
	for name, how := range map[string]func(r *rig, e *redirect.Pod){
		"by the state":   func(r *rig, _ *redirect.Pod) { r.set([]string{state.WorkloadName("uid-a")}) },
		"by the runtime": func(r *rig, e *redirect.Pod) { r.SandboxEnded("uid-a", e.Cookie()) },
	} {
		t.Run(name, func(t *testing.T) {
			h := &answering{app: make(chan *rawio.Conn, 2), began: make(chan struct{}, 2)}
			r := newRig(t, h)
			r.farewell = 2 * time.Second // ample for an answer on a busy machine
			r.set(nil, r.tells(r.workload))
			e := r.enrol()
			app, _ := r.listenIn(r.pod, podAddr)
			intoPod, err := NewNetwork(r.Carrier).DialApp(t.Context(), "uid-a", app, netip.AddrPortFrom(peerAddr, 1))
			if err != nil {
				t.Fatal(err)
			}
			defer intoPod.Close()
			h.app <- intoPod
			client, err := dial(t, r.peer, netip.AddrPortFrom(podAddr, 8080))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			<-h.began
			how(r, e)
			h.app <- nil
			late, err := dial(t, r.peer, netip.AddrPortFrom(podAddr, 8080))
			if err != nil {
				t.Fatal(err)
			}
			defer late.Close()
			for which, c := range map[string]*rawio.Conn{"a client": client, "one that comes later": late} {
				_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
				if got, err := io.ReadAll(c); string(got) != "gone" || !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("%s reads %q, then %v; want %q and a reset", which, got, err, "gone")
				}
			}
		})
	}
}

// Connections to a pod of another node end when the state says that its address is
// nobody's, or another pod's. Where the state only knows it no more, the controller is
// asked, and the connections stay.
func TestEndpointEnds(t *testing.T) {
	nobody := state.Resource{Name: state.AddressName(peerAddr), Address: &state.Address{Addr: peerAddr}}
	remote := func(uid string) *mesh.Workload {
		return &mesh.Workload{UID: uid, Namespace: "test", Name: uid, Node: "n2", Addrs: []netip.Addr{peerAddr}, Ready: true}
	}
	gone := []string{state.WorkloadName("uid-far")}
	for name, how := range map[string]struct {
		what    func(r *rig)
		ends    bool
		refused bool // the address is nobody's
	}{
		"nobody's":                       {func(r *rig) { r.set(gone, nobody) }, true, true},
		"another pod's":                  {func(r *rig) { r.set(gone, r.tells(remote("uid-next"))) }, true, false},
		"it is no endpoint any more":     {func(r *rig) { r.set(gone) }, false, false},
		"no endpoint, and then nobody's": {func(r *rig) { r.set(gone); r.set(nil, nobody) }, true, true},
		"no endpoint, and there it is":   {func(r *rig) { r.set(gone); r.set(nil, r.tells(remote("uid-far"))) }, false, false},
		"its settings change":            {func(r *rig) { r.set(nil, r.tells(remote("uid-far"))) }, false, false},
		"it is not ready: it is deleted": {func(r *rig) { w := remote("uid-far"); w.Ready = false; r.set(nil, r.tells(w)) }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, new(handler))
			network := NewNetwork(r.Carrier)
			r.set(nil, r.tells(r.workload), r.tells(remote("uid-far")))
			r.enrol()
			there, _ := r.listenIn(r.peer, peerAddr)
			c, err := network.Dial(t.Context(), "uid-a", there)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			how.what(r)
			if how.ends {
				until(t, "the connection is cut", func() bool { return cutConn(c) })
			} else {
				time.Sleep(200 * time.Millisecond) // nothing is to happen
				if cutConn(c) {
					t.Error("the connection was cut")
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			again, err := network.Dial(ctx, "uid-a", there)
			if err == nil {
				again.Close()
			}
			if errors.Is(err, errEnded) != how.refused || (err == nil) == how.refused {
				t.Errorf("another connection: %v, refused: want %v", err, how.refused)
			}
			if got := network.Gone(peerAddr); got != how.refused {
				t.Errorf("the pod is gone: %v, want %v", got, how.refused)
			}
			if name == "it is no endpoint any more" {
				until(t, "the controller is asked", func() bool {
					r.state.mu.Lock()
					defer r.state.mu.Unlock()
					return len(r.state.touched) > 0
				})
			}
		})
	}
}

// A connection that is being made to a pod that ends fails at once.
func TestDialEndsWithItsEndpoint(t *testing.T) {
	r := newRig(t, new(handler))
	far := &mesh.Workload{UID: "uid-far", Namespace: "test", Name: "far", Node: "n2", Addrs: []netip.Addr{peerAddr}}
	r.set(nil, r.tells(r.workload), r.tells(far))
	r.enrol()
	there := r.listenDeaf(peerAddr)
	const limit = 20 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := NewNetwork(r.Carrier).Dial(ctx, "uid-a", there)
		failed <- err
	}()
	until(t, "it is dialled", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		ep := r.endpoints[peerAddr]
		return ep != nil && ep.dials.Load() == 1
	})
	began := time.Now()
	r.set([]string{state.WorkloadName("uid-far")}, state.Resource{Name: state.AddressName(peerAddr), Address: &state.Address{Addr: peerAddr}})
	if err := <-failed; !errors.Is(err, errEnded) || time.Since(began) >= limit/2 {
		t.Errorf("dial: %v after %s, want %v at once", err, time.Since(began), errEnded)
	}
}

// listenDeaf listens in the peer's namespace, and drops what comes.
func (r *rig) listenDeaf(addr netip.Addr) netip.AddrPort {
	r.t.Helper()
	fd, err := r.peer.Socket(addr, redirect.Mark)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, rawio.Sockaddr(netip.AddrPortFrom(addr, 0))), unix.Listen(fd, 0)); err != nil {
		r.t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := dial(r.t, r.peer, rawio.AddrPort(sa)) // fills the queue
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return rawio.AddrPort(sa)
}
