package l7proxy

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

// TestStreamsNeedValidIdentities: what a handshake would not prove any more opens no stream. The
// client sees what it sees where each connection has a handshake, and connections that are open
// go on, as those do.
func TestStreamsNeedValidIdentities(t *testing.T) {
	otherRoot := func(m *mtls.Manager) error {
		other, err := ca.Open(t.TempDir(), "cluster.local")
		if err != nil {
			return err
		}
		return m.SetAnchors([][]byte{other.Anchors()[0].Raw})
	}
	for name, changes := range map[string]func(*agents) error{
		"the server's agent trusts another root": func(a *agents) error { return otherRoot(a.server.proxy.Certs) },
		"the client's agent trusts another root": func(a *agents) error { return otherRoot(a.client.proxy.Certs) },
		"the client's node has lost the identity": func(a *agents) error {
			a.client.proxy.Certs.SetIdentities(nil)
			return nil
		},
		"the client's address is of another identity": func(a *agents) error {
			other := *a.client.local
			other.Identity.ServiceAccount = "other"
			a.apply(a.server, "2", &other)
			return nil
		},
		"the client's certificate was renewed": func(a *agents) error {
			m := a.client.proxy.Certs
			m.SetIdentities(nil)
			m.SetIdentities([]mesh.Identity{webIdentity})
			proxytest.Eventually(t, "there is another certificate", func() bool { _, err := m.ServerConfig(webIdentity); return err == nil })
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			reasons := map[bool]mesh.Reason{}
			for _, streams := range []bool{false, true} {
				b := newBackend(t)
				a := newAgents(t, b.addr, Limits{ResolveTimeout: 100 * time.Millisecond}, func(a *agents) { a.client.proxy.upstream.OpaqueStreams = streamsIf(streams) })
				if streams {
					a.warm(func() { a.visit(b) })
				}
				c := a.dial()
				c.send(opaqueBytes)
				srv := b.request()
				srv.expect(opaqueBytes)
				before, dials := len(closed(a.client)), a.client.network.Dials()
				if err := changes(a); err != nil {
					t.Fatal(err)
				}
				next := a.dial()
				next.send(opaqueBytes)
				proxytest.Eventually(t, "the next connection is made, or refused", func() bool {
					select {
					case nc := <-b.conns:
						newClient(t, nc).expect(opaqueBytes)
						return true
					default:
						return len(closed(a.client)) > before
					}
				})
				if all := closed(a.client); len(all) > before {
					reasons[streams] = all[before].Reason
					next.expectEnd(unix.ECONNRESET)
				} else if a.client.network.Dials() == dials {
					t.Errorf("streams %v: no connection was made between the agents, want another handshake", streams)
				}
				srv.send("goes on")
				c.expect("goes on")
			}
			if reasons[true] != reasons[false] {
				t.Errorf("with streams the next connection ends with %q, with dedicated ones %q", reasons[true], reasons[false])
			}
		})
	}
}

// TestUrgentByteOnStream: an urgent byte stays in its place, as on a dedicated connection.
func TestUrgentByteOnStream(t *testing.T) {
	a, b := warmed(t)
	c, srv := a.stream(b)
	for _, ends := range [][2]*client{{c, srv}, {srv, c}} {
		raw, err := ends[0].SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []struct {
			bytes string
			flags int
		}{{"ab", 0}, {"c!", unix.MSG_OOB}, {"de", 0}} {
			_ = raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte(part.bytes), part.flags, nil) })
			if err != nil {
				t.Fatal(err)
			}
		}
		ends[1].expect("abc!de")
	}
}
