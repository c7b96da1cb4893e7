package upstream

import (
	"crypto/elliptic"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/mtls/certchain"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/test/bombs"
)

// computes counts the goroutines that compute.
type computes struct{ now, most, all atomic.Int64 }

func (c *computes) Compute() bool {
	c.all.Add(1)
	if now := c.now.Add(1); now > c.most.Load() {
		c.most.Store(now)
	}
	return true
}

func (c *computes) Computed() { c.now.Add(-1) }

// TestStallingClientHoldsNoSlot: peers that stall in their handshakes hold no slot, are not
// said to compute, and are given up.
func TestStallingClientHoldsNoSlot(t *testing.T) {
	s := newShaker(t, handshakePause(2*time.Second), saysNothing)
	s.gate = mtls.NewGate(mtls.GateOptions{Slots: 1, StrangerSlots: 1})
	var threads computes
	s.Threads = &threads
	serve := func(c *rawio.Conn) error {
		below := &conn.Transport{Conn: c}
		return s.Handshake(t.Context(), c.Remote().Addr(), false, tls.Server(below, s.server), below, nil)
	}
	config, err := s.Certs.ClientConfig(s.ep.Key.Identity, s.ep.Key.Identity, mtls.ALPNTCP)
	if err != nil {
		t.Fatal(err)
	}
	var stalled sync.WaitGroup
	for range 10 {
		client, server := proxytest.Pair(t)
		stalled.Go(func() { // sends its hello, reads, and says no more
			hello := &firstWrite{Conn: client}
			_ = hello.SetDeadline(time.Now().Add(time.Minute)) // far longer than the server waits
			_ = tls.Client(hello, config).HandshakeContext(t.Context())
		})
		stalled.Go(func() {
			defer server.Close()
			if why := mtls.HandshakeReason(serve(server)); why != mesh.ReasonTimeout {
				t.Errorf("a client that stalls: %v", why)
			}
		})
	}
	for deadline := time.Now().Add(10 * time.Second); s.gate.Stats().Active < 10; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", s.gate.Stats())
		}
	}
	client, server := proxytest.Pair(t)
	stalled.Go(func() {
		if err := tls.Client(&conn.Transport{Conn: client}, config).HandshakeContext(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if err := serve(server); err != nil {
		t.Error(err)
	}
	stalled.Wait()
	if st := s.gate.Stats(); st.Active+st.Running > 0 {
		t.Errorf("%+v", st)
	}
	if now, most, all := threads.now.Load(), threads.most.Load(), threads.all.Load(); now != 0 || most != 1 || all < 11 {
		t.Errorf("%d compute, of %d in all; up to %d at once beside one slot", now, all, most)
	}
}

// firstWrite drops all writes but the first.
type firstWrite struct {
	*rawio.Conn
	written bool
}

func (c *firstWrite) Write(p []byte) (int, error) {
	if c.written {
		return len(p), nil
	}
	c.written = true
	return c.Conn.Write(p)
}

// TestHandshakeBytes: a chain that is much too large is not even read, on either side, and
// what follows a handshake is not counted.
func TestHandshakeBytes(t *testing.T) {
	s := newShaker(t, handshakePause(2*time.Second), saysNothing)
	client, err := s.Certs.ClientConfig(s.ep.Key.Identity, s.ep.Key.Identity, mtls.ALPNTCP)
	if err != nil {
		t.Fatal(err)
	}
	bomb := bombs.Chain(t, s.ep.Key.Identity.String(), elliptic.P256(), 99, true)
	bad := bombs.Client(bomb, mtls.ALPNTCP)
	bad.Certificates = []tls.Certificate{bomb}
	for name, tc := range map[string]struct {
		client, server *tls.Config
		ours           string // the side that sees the bomb; "": none
	}{
		"server":   {bad, s.server, "server"},
		"client":   {client, bad, "client"},
		"ordinary": {client, s.server, ""},
	} {
		a, b := proxytest.Pair(t)
		belowA, belowB := &conn.Transport{Conn: a}, &conn.Transport{Conn: b}
		tlsA, tlsB := tls.Client(belowA, tc.client), tls.Server(belowB, tc.server)
		errs := map[string]error{}
		done := make(chan error, 1)
		go func() {
			err := s.Handshake(t.Context(), netip.Addr{}, true, tlsA, belowA, nil)
			if err != nil {
				a.Close()
			} else if tc.ours == "" {
				_, err = tlsA.Write(make([]byte, 100<<10))
			}
			done <- err
		}()
		errs["server"] = s.Handshake(t.Context(), netip.Addr{}, true, tlsB, belowB, nil)
		if tc.ours == "" {
			if _, err := io.ReadFull(tlsB, make([]byte, 100<<10)); err != nil {
				t.Errorf("%s: after the handshake: %v", name, err)
			}
		}
		b.Close()
		errs["client"] = <-done
		if tc.ours == "" {
			if errs["server"] != nil || errs["client"] != nil {
				t.Errorf("%s: %v", name, errs)
			}
			continue
		}
		if err := errs[tc.ours]; !errors.Is(err, certchain.ErrHandshake) || mtls.HandshakeReason(err) != mesh.ReasonTLSPeer {
			t.Errorf("the %s sees %v, want %v", name, err, certchain.ErrHandshake)
		}
	}
}

// TestHandshakeStack: a handshake leaves no large stack with the goroutine that waits for
// it, and a panic in it goes on in that goroutine, where it ends one connection only.
func TestHandshakeStack(t *testing.T) {
	const most = 8 << 10
	var deep func(n int) byte
	deep = func(n int) byte {
		var frame [1 << 10]byte
		if n > 0 {
			frame[n] = deep(n - 1)
		}
		return frame[n]
	}
	const waiting = 200
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	release := make(chan struct{})
	var done, ended sync.WaitGroup
	for range waiting {
		done.Add(1)
		ended.Go(func() {
			_ = onItsOwnStack(func() error { deep(60); return nil })
			done.Done()
			<-release
		})
	}
	done.Wait()
	runtime.ReadMemStats(&after)
	close(release)
	ended.Wait()
	if each := (int64(after.StackInuse) - int64(before.StackInuse)) / waiting; each > most {
		t.Errorf("%d bytes of stack for each goroutine that has waited, want at most %d", each, most)
	}

	defer func() {
		if defect := recover(); defect == nil || !strings.Contains(fmt.Sprint(defect), "a defect") {
			t.Errorf("got the panic %v, want that of the handshake", defect)
		}
	}()
	_ = onItsOwnStack(func() error { panic("a defect") })
}
