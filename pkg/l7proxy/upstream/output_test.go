package upstream

import (
	"context"
	"net/netip"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
)

// charged is a client that has a Usage.
type charged struct {
	Client
	usage *quota.Usage
}

func (c charged) ClientAddr() netip.AddrPort { return netip.AddrPort{} }
func (c charged) Usage() *quota.Usage        { return c.usage }

// TestOutputToEndpointsIsCharged: what an endpoint does not take of a connection that many
// streams share is charged to the pod that the connection belongs to.
func TestOutputToEndpointsIsCharged(t *testing.T) {
	pods := &quota.Pods{MaxConns: 10}
	usage, err := pods.Enter(quota.Key{UID: "client", Direction: mesh.Outbound}, quota.PodSource("client"), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer usage.Leave()
	check := func(protocol string, c *h2conn.Conn) {
		t.Helper()
		if c.Budget != conn.Budget(usage) {
			t.Errorf("%s: output is charged to %v, want the pod", protocol, c.Budget)
		}
	}

	p, _ := newMuxPeers(t, mtls.ALPNMux)
	s, err := p.stream(t.Context(), &Endpoint{Usage: usage}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	check("shared connection", p.conns[Key{}][0].Conn)

	pool := newPool(t, func(o *Options) {
		o.Connect = func(context.Context, *Endpoint, netip.AddrPort, string) (conn.Conn, Result, error) {
			here, _ := proxytest.Pair(t)
			return conn.Plain{Conn: here}, Result{}, nil
		}
	})
	pool.http2.mu.Lock()
	dial := pool.http2.begin(Key{}, struct{}{})
	pool.http2.mu.Unlock()
	pool.http2.dial(Endpoint{Usage: usage}, charged{usage: usage}, dial)
	pool.http2.mu.Lock()
	c := pool.http2.conns[Key{}][0]
	pool.http2.mu.Unlock()
	check("HTTP/2", c.Conn)
	c.NC.Close()
}
