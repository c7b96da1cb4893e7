package mtls

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

// state returns the state of id's certificate, "" if id is not one of m's.
func state(m *Manager, id mesh.Identity) CertState {
	for _, s := range m.Status() {
		if s.Identity == id {
			return s.State
		}
	}
	return ""
}

func serial(m *Manager, id mesh.Identity) string {
	for _, s := range m.Status() {
		if s.Identity == id {
			return s.SerialHex
		}
	}
	return ""
}

func TestRenewalAtHalfTheLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, 24*time.Hour)
		m := startManager(t, a, web)
		synctest.Wait()
		first := serial(m, web)
		time.Sleep(10*time.Hour + 45*time.Minute) // 44.8 %
		if got := serial(m, web); got != first || a.requests(web) != 1 {
			t.Errorf("at 44.8 %% of the lifetime: %d requests, want 1: no renewal yet", a.requests(web))
		}
		time.Sleep(time.Hour + 20*time.Minute) // 50.3 %
		if got := serial(m, web); got == first || a.requests(web) != 2 {
			t.Errorf("at 50.3 %% of the lifetime: %d requests, want 2: renewed", a.requests(web))
		}
		time.Sleep(30 * 24 * time.Hour)
		if got := a.requests(web); got < 61 || got > 69 {
			t.Errorf("%d requests in 30.5 days of 24 h certificates, want 61 to 69", got)
		}
		if s := m.Stats(); s.Refreshes != uint64(a.requests(web)) || s.Failures != 0 || len(s.Anchors) != 1 {
			t.Errorf("Stats() = %+v, want %d refreshes, no failure and one anchor", s, a.requests(web))
		}
	})
}

// TestFailingRenewal checks that the old certificate is used until it expires,
// and that renewal succeeds soon after the authority is back.
func TestFailingRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, time.Hour)
		m := startManager(t, a, web, store)
		synctest.Wait()
		a.set(func() { a.fail = errors.New("controller is away") })
		time.Sleep(50 * time.Minute)
		if got := state(m, web); got != CertStale {
			t.Errorf("after 50 m: %s, want stale", got)
		}
		if o := between(m, m, web, store); o.err() != nil {
			t.Errorf("handshake with a stale certificate: %v, want success", o.err())
		}
		time.Sleep(15 * time.Minute)
		if got := state(m, web); got != CertExpired {
			t.Errorf("after 65 m: %s, want expired", got)
		}
		for _, err := range []error{between(m, m, web, store).client, serverError(m, web)} {
			if HandshakeReason(err) != mesh.ReasonNoCertificate ||
				!strings.Contains(err.Error(), "expired 5m0s ago") || !strings.Contains(err.Error(), "controller is away") {
				t.Errorf("handshake with an expired certificate: %v, want one that says when it expired and why it was not renewed", err)
			}
		}
		if got := m.Stats().Failures; got < 150 || got > 900 {
			t.Errorf("%d failed requests in 37 minutes for two identities, want 150 to 900: the back-off is wrong", got)
		}
		a.set(func() { a.fail = nil })
		time.Sleep(maxBackoff)
		if got := state(m, web); got != CertValid {
			t.Errorf("after the authority came back: %s, want valid", got)
		}
		if o := between(m, m, web, store); o.err() != nil {
			t.Errorf("handshake after the authority came back: %v, want success", o.err())
		}
	})
}

func serverError(m *Manager, id mesh.Identity) error {
	_, err := m.ServerConfig(id)
	return err
}

func TestFirstCertificateIsRetriedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, time.Hour)
		a.fail = errors.New("no pod with this identity on node-1")
		m := startManager(t, a, web)
		synctest.Wait()
		if err := serverError(m, web); HandshakeReason(err) != mesh.ReasonNoCertificate || !strings.Contains(err.Error(), "no pod") {
			t.Errorf("ServerConfig while pending: %v, want %s with the authority's error", err, mesh.ReasonNoCertificate)
		}
		a.set(func() { a.fail = nil })
		time.Sleep(firstBackoff)
		if got := state(m, web); got != CertValid {
			t.Errorf("after the first back-off: %s, want valid", got)
		}
	})
}

func TestSetIdentities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, time.Hour)
		m := startManager(t, a, web, web, mesh.Identity{})
		synctest.Wait()
		kept := serial(m, web)
		m.SetIdentities([]mesh.Identity{web, store})
		synctest.Wait()
		if serial(m, web) != kept || a.requests(web) != 1 || state(m, store) != CertValid {
			t.Errorf("after adding an identity: %+v with %d requests for the old one, want both valid and the old one unchanged", m.Status(), a.requests(web))
		}
		m.SetIdentities([]mesh.Identity{store})
		synctest.Wait()
		if err := serverError(m, web); HandshakeReason(err) != mesh.ReasonNoCertificate {
			t.Errorf("ServerConfig of a dropped identity: %v, want %s", err, mesh.ReasonNoCertificate)
		}
		time.Sleep(10 * time.Hour)
		if got := a.requests(web); got != 1 {
			t.Errorf("%d requests for a dropped identity, want 1", got)
		}
		m.SetIdentities([]mesh.Identity{store, web})
		synctest.Wait()
		if got := serial(m, web); got == kept || got == "" {
			t.Errorf("an identity that was added again: certificate %q, want a new one, not %q", got, kept)
		}
	})
}

// TestWrongAnswers checks that an answer of the authority is verified before it
// is used.
func TestWrongAnswers(t *testing.T) {
	foreign := newRoot(t, "foreign")
	for name, tc := range map[string]struct {
		spoil func(a *authority)
		want  string
	}{
		"another identity": {func(a *authority) { a.swap = func(mesh.Identity) mesh.Identity { return store } }, "tls-identity"},
		"another key": {func(a *authority) {
			a.key = func([]byte) []byte { _, csr, _ := newRequest(web); return csr }
		}, "for another key"},
		"empty chain":      {func(a *authority) { a.spoil = func(_ mesh.Identity, i *Issued) { i.Chain = nil } }, "no certificate"},
		"rubbish chain":    {func(a *authority) { a.spoil = func(_ mesh.Identity, i *Issued) { i.Chain = [][]byte{{1}} } }, "parse certificate"},
		"rubbish anchor":   {func(a *authority) { a.spoil = func(_ mesh.Identity, i *Issued) { i.Anchors = [][]byte{{1}} } }, "anchor 1 of 1"},
		"not its own root": {func(a *authority) { a.spoil = func(_ mesh.Identity, i *Issued) { i.Anchors = ders(foreign.cert) } }, "none of our 1 trust anchors"},
		"no anchor ever":   {func(a *authority) { a.spoil = func(_ mesh.Identity, i *Issued) { i.Anchors = nil } }, "no trust anchor"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAuthority(t, time.Hour)
				tc.spoil(a)
				m := startManager(t, a, web)
				synctest.Wait()
				s := m.Status()[0]
				if s.State != CertPending || !strings.Contains(s.LastError, tc.want) {
					t.Errorf("%s: %s, want pending with %q", s.State, s.LastError, tc.want)
				}
			})
		})
	}
}

func TestSetAnchorsKeepsTheBundleOnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startManager(t, newAuthority(t, time.Hour), web, store)
		synctest.Wait()
		before := m.Stats().Anchors
		for _, bad := range [][][]byte{nil, {}, {{0x30}}} {
			if err := m.SetAnchors(bad); err == nil {
				t.Errorf("SetAnchors(%v): got no error, want one", bad)
			}
		}
		if diff := cmp.Diff(before, m.Stats().Anchors); diff != "" {
			t.Errorf("anchors (-before +after):\n%s", diff)
		}
		if o := between(m, m, web, store); o.err() != nil {
			t.Errorf("handshake after a bad bundle: %v, want success", o.err())
		}
	})
}

// TestNewAnchorRenewsSoon checks that a new anchor causes a renewal, so that
// long-lived certificates do not keep an old root in use for a day, and that
// known or removed anchors cause none.
func TestNewAnchorRenewsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, 24*time.Hour)
		m := startManager(t, a, web)
		synctest.Wait()
		again := func() {
			if err := m.SetAnchors(a.anchorsDER()); err != nil {
				t.Fatal(err)
			}
		}
		again()
		time.Sleep(time.Hour)
		if n := a.requests(web); n != 1 {
			t.Fatalf("%d requests without a rotation, want 1", n)
		}
		if err := a.Rotate(); err != nil {
			t.Fatal(err)
		}
		again()
		time.Sleep(rotationWait - time.Second)
		if n := a.requests(web); n != 1 {
			t.Errorf("%d requests before the authority signs with the new root, want 1", n)
		}
		time.Sleep(rotationSpread + 2*time.Second)
		if n := a.requests(web); n != 2 {
			t.Errorf("%d requests, want 2: renewed once", n)
		}
		time.Sleep(time.Hour)
		again()
		time.Sleep(time.Hour)
		if n := a.requests(web); n != 2 {
			t.Errorf("%d requests, want 2: no further one", n)
		}
	})
}

// TestRotationLosesNoHandshake makes handshakes all the time between two nodes
// with certificates of two seconds, while the root is replaced twice and the
// first root is removed.
func TestRotationLosesNoHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, 2*time.Second)
		m, n := startManager(t, a, web), startManager(t, a, store)
		synctest.Wait()
		start := time.Now()
		serials := map[string]bool{}
		for made := range 400 {
			switch made {
			case 100, 250:
				if err := a.Rotate(); err != nil {
					t.Fatal(err)
				}
			case 350:
				anchors := slices.DeleteFunc(a.anchorsDER(), func(der []byte) bool {
					return string(der) == string(a.anchorsDER()[2])
				})
				if err := errors.Join(m.SetAnchors(anchors), n.SetAnchors(anchors)); err != nil {
					t.Fatal(err)
				}
			}
			for _, o := range []outcome{between(m, n, web, store), between(n, m, store, web)} {
				if o.err() != nil {
					t.Fatalf("handshake %d, after %s: %v, want success", made, time.Since(start), o.err())
				}
			}
			serials[serial(m, web)] = true
			time.Sleep(50 * time.Millisecond)
		}
		if len(serials) < 8 {
			t.Errorf("%d certificates in 20 s, want 8 or more", len(serials))
		}
	})
}

// TestRotationOverLoopback does the same in real time, over real sockets and from
// several goroutines, for the race detector.
func TestRotationOverLoopback(t *testing.T) {
	t.Parallel()
	// The renewal comes after two thirds. The rest must be long enough for it on a
	// busy machine.
	const lifetime = 9 * time.Second
	a := newAuthority(t, lifetime)
	m, n := ready(t, startManager(t, a, web)), ready(t, startManager(t, a, store))
	deadline := time.Now().Add(lifetime)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for time.Now().Before(deadline) {
				client, err := m.ClientConfig(web, store, ALPNHTTP2)
				if err != nil {
					t.Error(err)
					return
				}
				server, err := n.ServerConfig(store)
				if err != nil {
					t.Error(err)
					return
				}
				if o := connectTCP(t, client, server); o.err() != nil {
					t.Errorf("handshake: %v, want success", o.err())
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	time.Sleep(time.Second)
	if err := a.Rotate(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if got := m.Stats().Refreshes; got < 2 {
		t.Errorf("%d certificates issued, want 2 or more: a renewal within the test", got)
	}
}

// TestForgottenKey: the key of an identity that the node no longer needs is gone at once,
// also for a handshake that has its config already, and a late renewal does not bring it
// back.
func TestForgottenKey(t *testing.T) {
	a := newAuthority(t, time.Hour)
	m := ready(t, startManager(t, a, web, store))
	server, err := m.ServerConfig(web)
	if err != nil {
		t.Fatal(err)
	}
	client, err := m.ClientConfig(web, store, ALPNHTTP1)
	if err != nil {
		t.Fatal(err)
	}
	e := m.entry(web)
	late := e.cert.Load()
	m.SetIdentities([]mesh.Identity{store})
	e.use(late)
	if _, err := server.GetCertificate(nil); HandshakeReason(err) != mesh.ReasonNoCertificate {
		t.Errorf("server: got %v, want %s", err, mesh.ReasonNoCertificate)
	}
	if _, err := client.GetClientCertificate(nil); HandshakeReason(err) != mesh.ReasonNoCertificate {
		t.Errorf("client: got %v, want %s", err, mesh.ReasonNoCertificate)
	}
	if e.cert.Load() != nil || len(e.clients) > 0 {
		t.Errorf("certificate %v and %d configs are kept", e.cert.Load(), len(e.clients))
	}
}
