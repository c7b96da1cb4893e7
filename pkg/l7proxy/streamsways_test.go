package l7proxy

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// streamWays are how an opaque connection between nodes is carried: by a connection of its own,
// by a stream, and by a stream that has moved to a connection of its own.
var streamWays = []string{"dedicated", "stream", "moved"}

// carriedConn is an opaque connection that is carried in one of these ways. Its ends have
// exchanged opaqueBytes.
type carriedConn struct {
	*agents
	b       *backend
	c, srv  *client
	carried uint64       // bytes to the server so far
	before  map[*env]int // connections that were reported as closed before
}

func carriedBy(t *testing.T, way string) *carriedConn {
	t.Helper()
	b := newBackend(t)
	one := &carriedConn{b: b, carried: uint64(len(opaqueBytes))}
	one.agents = newAgents(t, b.addr, Limits{}, func(a *agents) { a.client.proxy.upstream.OpaqueStreams = streamsIf(way != "dedicated") })
	if way == "dedicated" {
		one.c = one.dial()
		one.c.send(opaqueBytes)
		one.srv = b.request()
		one.srv.expect(opaqueBytes)
	} else {
		one.warm(func() { one.visit(b) })
		one.c, one.srv = one.stream(b)
	}
	if way == "moved" {
		one.moves(b, one.c, one.srv)
		one.carried += much
	}
	one.before = map[*env]int{}
	for _, e := range []*env{one.client, one.server} {
		open := 1
		if way == "moved" {
			open = 2 // see agents.moves
		}
		proxytest.Eventually(t, "what was before is reported", func() bool { return opened(e) == len(closed(e))+open })
		one.before[e] = len(closed(e))
	}
	return one
}

func opened(e *env) (n int) {
	for _, one := range e.tap.Events() {
		if one.Kind == tap.ConnOpen {
			n++
		}
	}
	return n
}

// records is what both agents report of the end, the client's first.
func (one *carriedConn) records(t *testing.T) string {
	t.Helper()
	var all []string
	for _, e := range []*env{one.client, one.server} {
		var r tap.Event
		proxytest.Eventually(t, "it is reported as closed", func() bool {
			since := closed(e)[one.before[e]:]
			i := slices.IndexFunc(since, func(r tap.Event) bool { return r.ReadBytes >= one.carried })
			if i >= 0 {
				r = since[i]
			}
			return i >= 0
		})
		all = append(all, fmt.Sprintf("%s %s %s, reason %q, reset %v, a first byte %v, %d to the server, %d to the client, from %s %s, round-trip time %v", r.Direction, r.TLS, r.Protocol, r.Reason, r.Reset, r.Split.FirstByte > 0 && r.Split.FirstByte <= r.Duration,
			r.ReadBytes-one.carried, r.WriteBytes, r.Source.Addr.Addr(), r.Source.Identity.ServiceAccount, r.SRTT > 0))
	}
	return strings.Join(all, "\n")
}

// TestWaysOfOpaqueConnections: what is judged, limited, counted and reported of an opaque
// connection does not depend on how it is carried.
func TestWaysOfOpaqueConnections(t *testing.T) {
	for name, play := range map[string]func(t *testing.T, one *carriedConn){
		"a message each way, then the client ends": func(_ *testing.T, one *carriedConn) {
			one.srv.send("answer")
			one.c.expect("answer")
			one.c.send("message")
			one.srv.expect("message")
			one.c.Close()
			one.srv.expectEnd(nil)
			one.srv.Close()
		},
		"the server half-closes, and then the client ends": func(_ *testing.T, one *carriedConn) {
			one.srv.send("answer")
			_ = one.srv.CloseWrite()
			one.c.expect("answer")
			one.c.expectEnd(nil)
			one.c.send("late")
			one.srv.expect("late")
			one.c.Close()
			one.srv.expectEnd(nil)
			one.srv.Close()
		},
		"the client resets": func(_ *testing.T, one *carriedConn) {
			_ = one.c.SetLinger(0)
			one.c.Close()
			one.srv.expectEnd(unix.ECONNRESET)
		},
		"the server resets": func(_ *testing.T, one *carriedConn) {
			_ = one.srv.SetLinger(0)
			one.srv.Close()
			one.c.expectEnd(unix.ECONNRESET)
		},
		"a policy does not allow it any more": func(_ *testing.T, one *carriedConn) {
			g := &guardedPod{env: one.server, pod: one.pod, addr: one.addr, version: 1}
			g.rule(allowFrom("10.9.9.9/32"))
			one.c.expectEnd(unix.ECONNRESET)
			one.srv.expectEnd(unix.ECONNRESET)
		},
		"the server's pod ends": func(_ *testing.T, one *carriedConn) {
			one.client.network.End(one.addr.Addr())
			one.c.expectEnd(unix.ECONNRESET)
			one.srv.expectEnd(unix.ECONNRESET)
		},
		"it counts as a connection of each pod": func(t *testing.T, one *carriedConn) {
			for e, key := range map[*env]quota.Key{one.client: {UID: "client", Direction: mesh.Outbound}, one.server: {UID: "db", Direction: mesh.Inbound}} {
				before, _ := e.proxy.pods.Of(key)
				used := worked(e, key)
				for range 50 {
					one.c.send("there?")
					one.srv.expect("there?")
					one.srv.send("there!")
					one.c.expect("there!")
				}
				if used == worked(e, key) {
					t.Errorf("%v: its processor time is charged to nobody", key)
				}
				one.c.Close()
				one.srv.Close()
				proxytest.Eventually(t, "it does not count any more", func() bool {
					conns, _ := e.proxy.pods.Of(key)
					return conns < before
				})
				one.c, one.srv = one.dial(), nil
				one.c.send(opaqueBytes)
				one.srv = one.b.request()
				one.srv.expect(opaqueBytes)
			}
			one.c.Close()
			one.srv.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := ""
			for _, way := range streamWays {
				one := carriedBy(t, way)
				play(t, one)
				if strings.HasPrefix(name, "it counts") {
					continue
				}
				switch got := one.records(t); {
				case want == "":
					want = got
				case got != want:
					t.Errorf("%s: the agents report\n%s\nof a dedicated connection\n%s", way, got, want)
				}
			}
			t.Log(want)
		})
	}
}

// worked is the processor time that a pod is charged with.
func worked(e *env, key quota.Key) (n int64) {
	for used := range e.proxy.pods.All() {
		if used.Key == key {
			n = int64(used.Work)
		}
	}
	return n
}

// TestBudgetsOfOpaqueConnections: connections whose receivers do not read are cut where the pod
// has far more bytes waiting than it may, however they are carried, and say why.
func TestBudgetsOfOpaqueConnections(t *testing.T) {
	for _, stalls := range []string{"client", "server"} {
		for _, way := range streamWays {
			t.Run(stalls+" does not read, "+way, func(t *testing.T) {
				b := newBackend(t)
				a := newAgents(t, b.addr, Limits{}, func(a *agents) {
					a.client.proxy.upstream.OpaqueStreams = streamsIf(way != "dedicated")
					map[string]*env{"client": a.client, "server": a.server}[stalls].proxy.pods.MaxBuffered = 256 << 10
				})
				if way != "dedicated" {
					a.warm(func() { a.visit(b) })
				}
				e := map[string]*env{"client": a.client, "server": a.server}[stalls]
				before := len(closed(e))
				var writing sync.WaitGroup
				var ends []*client
				for range 60 {
					c := a.dial()
					c.send(opaqueBytes)
					srv := b.request()
					srv.expect(opaqueBytes)
					if way == "moved" {
						carry(t, c, srv, much)
						proxytest.Eventually(t, "the stream has moved", func() bool { return a.streams() == 0 })
					}
					ends = append(ends, c, srv)
				}
				for i := range len(ends) / 2 {
					from := ends[2*i]
					if stalls == "client" {
						from = ends[2*i+1]
					}
					writing.Go(func() {
						for {
							if _, err := from.Write(make([]byte, 64<<10)); err != nil {
								return
							}
						}
					})
				}
				if r := lastClosed(t, e, before+1); r.Reason != mesh.ReasonOverload || !r.Reset {
					t.Errorf("the agent reports %q, reset %v; want %q", r.Reason, r.Reset, mesh.ReasonOverload)
				}
				for _, end := range ends {
					_ = end.SetLinger(0)
					end.Close()
				}
				writing.Wait()
			})
		}
	}
}
