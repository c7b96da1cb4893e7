package l7proxy

import (
	"crypto/tls"
	"net"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// resolved knows one name, until it is asked for it often enough.
type resolved struct {
	name  string
	asked atomic.Int32
}

func (r *resolved) Name(pod *mesh.Workload, addr netip.Addr) string {
	if r.asked.Add(1) > 1 || pod.UID == "" || !addr.IsLoopback() {
		return ""
	}
	return r.name
}

func (r *resolved) Answers(*mesh.Workload) func([]byte) { return nil }

// TestNamesFromDNS: a connection that carries no name gets the one from DNS, once. One that
// does carry a name, and requests, do not ask, and no rule looks at it.
func TestNamesFromDNS(t *testing.T) {
	names := &resolved{name: "db.example.com"}
	fresh := func() *outside {
		o := &outside{newShop(t)}
		names.asked.Store(0)
		o.proxy.core.Names = names // as New does
		return o
	}
	o, b := fresh(), newBackend(t)
	dst := b.addr
	c, err := net.Dial("tcp", o.to(dst))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(opaqueBytes)); err != nil {
		t.Fatal(err)
	}
	srv := b.request()
	srv.expect(opaqueBytes)
	srv.Close()
	c.Close()
	open, end := o.tap.Wait(t, tap.ConnOpen, 0), o.tap.Wait(t, tap.ConnClose, 0)
	if open.DNS != names.name || end.DNS != names.name || open.Outside != "" || names.asked.Load() != 1 {
		t.Errorf("opaque: %q and %q, outside %q, asked %d times", open.DNS, end.DNS, open.Outside, names.asked.Load())
	}

	// A name of DNS is none by which a route would match.
	o = fresh()
	o.network(true)
	o.allow(mesh.LayerTLS, 0, names.name)
	if c, err := net.Dial("tcp", o.to(dst)); err == nil {
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		_, _ = c.Write([]byte(opaqueBytes))
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("a connection without a server name is let through by its name from DNS: read %d", n)
		}
		c.Close()
	}
	if e := o.tap.Wait(t, tap.ConnClose, 0); e.Reason != mesh.ReasonEgressDenied || e.DNS != names.name {
		t.Errorf("denied: %s, %q", e.Reason, e.DNS)
	}

	server := httptest.NewTLSServer(says("tls"))
	t.Cleanup(server.Close)
	for sni, want := range map[string]string{"api.example.com": "", "": names.name} {
		o = fresh()
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Minute}, Config: &tls.Config{InsecureSkipVerify: true, ServerName: sni}}
		if c, err := d.DialContext(t.Context(), "tcp", o.to(server.Listener.Addr().String())); err != nil {
			t.Fatal(err)
		} else {
			c.Close()
		}
		if e := o.tap.Wait(t, tap.ConnClose, 0); e.DNS != want || e.SNI != sni {
			t.Errorf("TLS with server name %q: DNS %q, want %q", sni, e.DNS, want)
		}
	}

	o = fresh()
	plain := httptest.NewServer(says("http"))
	t.Cleanup(plain.Close)
	for _, http2 := range []bool{false, true} {
		o.ask(plain.Listener.Addr().String(), "203.0.113.7", "/", http2)
	}
	if n := names.asked.Load(); n != 0 {
		t.Errorf("requests have asked for names %d times", n)
	}
}
