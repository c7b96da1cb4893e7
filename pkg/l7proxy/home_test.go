package l7proxy

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/listener"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// signer is the mesh's authority.
type signer struct{ *ca.Directory }

func (s signer) SignWorkload(_ context.Context, id mesh.Identity, csr []byte) (mtls.Issued, error) {
	chain, notAfter, err := s.Directory.SignWorkload(csr, id, time.Hour)
	issued := mtls.Issued{Chain: chain, NotAfter: notAfter}
	for _, c := range s.Anchors() {
		issued.Anchors = append(issued.Anchors, c.Raw)
	}
	return issued, err
}

// managerOf keeps certificates of the identities until the test ends.
func managerOf(t testing.TB, s mtls.Signer, ids ...mesh.Identity) *mtls.Manager {
	t.Helper()
	m := mtls.NewManager(s, "cluster.local", slog.New(slog.DiscardHandler))
	m.SetIdentities(ids)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	for _, id := range ids {
		proxytest.Eventually(t, "the certificate is there", func() bool { _, err := m.ServerConfig(id); return err == nil })
	}
	return m
}

// TestIdentityElsewhere: a peer with a valid certificate is refused in the handshake,
// whatever protocol it wants to speak, unless its address is one of a pod with the
// identity. It is told that its certificate is refused, and tap shows the reason and the
// identity.
func TestIdentityElsewhere(t *testing.T) {
	authority, err := ca.Open(t.TempDir(), "cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	web := mesh.Identity{TrustDomain: "cluster.local", Namespace: "default", ServiceAccount: "web"}
	db := mesh.Identity{TrustDomain: "cluster.local", Namespace: "default", ServiceAccount: "db"}
	peers := managerOf(t, signer{authority}, web)
	home, abroad := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.3")
	for _, alpn := range []string{mtls.ALPNHTTP1, mtls.ALPNMux, mtls.ALPNHTTP2, mtls.ALPNStreams, mtls.ALPNMove, mtls.ALPNTCP} {
		t.Run(strings.TrimPrefix(alpn, "underlane/"), func(t *testing.T) {
			e := newEnv(t)
			e.proxy.Certs = managerOf(t, signer{authority}, db)
			e.proxy.directory.ResolveTimeout = time.Second
			l := proxytest.Listen(t)
			server := &mesh.Workload{UID: "db", Name: "db", Node: "node-1", Meshed: true, Identity: db}
			e.group.ServeInTurn(l, listener.Manner{}, func(c *rawio.Conn) listener.Rest { return e.proxy.ServeInbound(c, server) })
			set := func(version string, addr netip.Addr) {
				w := &mesh.Workload{UID: "web", Name: "web", Node: "node-2", Meshed: true, Identity: web, Addrs: []netip.Addr{addr}}
				if err := e.store.Apply(state.Delta{Synced: true, Resources: []state.Resource{
					{Name: state.WorkloadName("web"), Version: version, Workload: w},
					{Name: state.AddressName(home), Version: "1", Address: &state.Address{Addr: home}},
					{Name: state.AddressName(abroad), Version: "1", Address: &state.Address{Addr: abroad}},
				}}); err != nil {
					t.Fatal(err)
				}
			}
			// connect does the handshake and reads until the server ends, or for so long.
			connect := func(from netip.Addr, patience time.Duration) error {
				raw, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}).Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer raw.Close()
				config, err := peers.ClientConfig(web, db, alpn)
				if err != nil {
					t.Fatal(err)
				}
				c := tls.Client(raw, config)
				if err := c.Handshake(); err != nil {
					t.Fatal(err)
				}
				_ = c.SetReadDeadline(time.Now().Add(patience))
				if alpn == mtls.ALPNHTTP1 {
					_, _ = io.WriteString(c, "BAD\r\n\r\n") // has an answer
				}
				_, err = c.Read(make([]byte, 100))
				return err
			}
			set("1", home)
			if err := connect(abroad, time.Minute); !mtls.Refused(err) {
				t.Errorf("elsewhere: got %v, want a refusal of the certificate", err)
			}
			if event := e.tap.Wait(t, tap.ConnClose, 0); event.Reason != mesh.ReasonElsewhere || event.Source.Identity != web || event.Source.Addr.Addr() != abroad {
				t.Errorf("tap: %+v, want reason %s, identity %s", event, mesh.ReasonElsewhere, web)
			}
			if err := connect(home, time.Second); mtls.Refused(err) {
				t.Errorf("at home: %v", err)
			}
			// A pod that starts: the state has it while its handshake is under way.
			time.AfterFunc(100*time.Millisecond, func() { set("2", netip.MustParseAddr("127.0.0.4")) })
			if err := connect(netip.MustParseAddr("127.0.0.4"), time.Second); mtls.Refused(err) {
				t.Errorf("a pod that has just started: %v", err)
			}
		})
	}
}
