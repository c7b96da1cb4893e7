package upstream

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// TestAgentIsBackAtOnce: while an agent is away, connections fail without asking for it,
// and probes do that now and then. Connections are made when it is back, long before its
// absence is forgotten.
func TestAgentIsBackAtOnce(t *testing.T) {
	const silence = 400 * time.Millisecond
	for name, away := range map[string]func(s *shaker, c *rawio.Conn, back <-chan struct{}){
		"it was stopped": func(s *shaker, c *rawio.Conn, back <-chan struct{}) {
			<-back // what was sent meanwhile is there when it goes on
			s.accept(c)
		},
		"something else is silent": func(s *shaker, c *rawio.Conn, _ <-chan struct{}) { saysNothing(s, c) },
		"something else answers": func(_ *shaker, c *rawio.Conn, _ <-chan struct{}) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		},
		"its connections are cut": func(s *shaker, c *rawio.Conn, _ <-chan struct{}) { cutsHandshake(s, c) },
	} {
		t.Run(name, func(t *testing.T) {
			back := make(chan struct{})
			limits := func(o *Options) { o.Limits.HandshakeSilence, o.Limits.AgentDownTTL = silence, 10*time.Hour }
			s := newShaker(t, limits, func(s *shaker, c *rawio.Conn) {
				select {
				case <-back:
					s.accept(c)
				default:
					away(s, c, back)
				}
			})
			reasons, _ := s.dial(1)
			s.expect(reasons, mesh.ReasonAgentDown, 1)
			began := time.Now()
			for time.Since(began) < 2*silence {
				reasons, _ := s.dial(1)
				s.expect(reasons, mesh.ReasonAgentDown, 1)
				time.Sleep(10 * time.Millisecond)
			}
			if n, most := s.came.Load(), int64(3+time.Since(began)/askDownEvery); n > most {
				t.Errorf("%d connections came while the agent was away, want %d at most", n, most)
			}
			close(back)
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
				c, err := s.open(t.Context())
				if err == nil {
					c.Close()
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("the agent is back, and connections still fail: %v", err)
				}
			}
		})
	}
}

// cutsHandshake resets a connection after the first bytes.
func cutsHandshake(_ *shaker, c *rawio.Conn) {
	_, _ = c.Read(make([]byte, 4096))
	_ = c.Reset()
}

// TestNobodyAsksForAnUnusedAgent: the probes end some time after the last connection to
// an agent that stays away.
func TestNobodyAsksForAnUnusedAgent(t *testing.T) {
	s := newShaker(t, func(o *Options) { o.Limits.AgentDownTTL = 5 * time.Second }, cutsHandshake)
	reasons, _ := s.dial(1)
	s.expect(reasons, mesh.ReasonAgentDown, 1)
	proxytest.Eventually(t, "the endpoint is forgotten", func() bool {
		s.down.mu.Lock()
		defer s.down.mu.Unlock()
		return len(s.down.peers) == 0
	})
	if n := s.came.Load(); n > 4 {
		t.Errorf("%d connections came, want that of the client and few probes", n)
	}
}

// TestAnAnswerEndsTheAbsence: an agent that answers at one port answers at all ports and
// addresses of that pod. If it was silent, it goes on for other pods of its node, too. An
// application that answered in its place says nothing about other pods.
func TestAnAnswerEndsTheAbsence(t *testing.T) {
	at := func(uid, node, addr string) *Endpoint {
		return &Endpoint{Fallback: true, Peer: tap.Peer{
			Addr: netip.MustParseAddrPort(addr), Workload: &mesh.Workload{UID: uid, Node: node},
		}}
	}
	answered := at("a", "node-2", "10.0.0.1:80")
	others := map[string]*Endpoint{
		"the same":                at("a", "node-2", "10.0.0.1:80"),
		"another port":            at("a", "node-2", "10.0.0.1:81"),
		"the other family":        at("a", "node-2", "[fd00::1]:80"),
		"another pod of its node": at("b", "node-2", "10.0.0.2:80"),
		"a pod of another node":   at("c", "node-3", "10.0.0.3:80"),
	}
	for silent, want := range map[bool]map[string]bool{
		true:  {"a pod of another node": true},
		false: {"a pod of another node": true, "another pod of its node": true},
	} {
		p := newPool(t, nil)
		for _, ep := range others {
			p.remember(ep, silent)
		}
		p.down.back(answered)
		got := map[string]bool{}
		for name, ep := range others {
			if p.down.is(ep) {
				got[name] = true
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("silent %v: those that count as away (-want +got):\n%s", silent, diff)
		}
	}
}

// TestProbesAreBounded: however many ports of a pod a client tries, its agent is probed at
// one of them. A use of any of them keeps that probe going, and when it has ended the next
// failure begins another. The endpoints that are remembered are bounded.
func TestProbesAreBounded(t *testing.T) {
	at := func(uid string, port int) *Endpoint {
		return &Endpoint{Peer: tap.Peer{
			Addr:     netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(port)),
			Workload: &mesh.Workload{UID: uid, Node: "node-2"},
		}}
	}
	p := newPool(t, nil)
	first := p.down.put(at("a", 1), false, time.Hour)
	if first == nil {
		t.Fatal("the first endpoint is not probed")
	}
	for port := 2; port <= 2*downMost; port++ {
		if p.down.put(at("a", port), false, time.Hour) != nil {
			t.Fatalf("port %d is probed beside another one of the pod", port)
		}
	}
	if n := len(p.down.peers); n != downMost {
		t.Errorf("%d endpoints are remembered, want %d", n, downMost)
	}
	first.until = time.Now()
	if !p.down.is(at("a", 2)) || !p.down.goesOn(at("a", 1).Peer.Addr, first) {
		t.Error("the probe ends while another port of the pod is used")
	}
	first.until = time.Time{}
	if p.down.goesOn(at("a", 1).Peer.Addr, first) {
		t.Error("the probe goes on after its time")
	}
	if p.down.put(at("a", 2), false, time.Hour) == nil {
		t.Error("nothing is probed after the first probe has ended")
	}
	p.down.back(at("a", 3))
	if len(p.down.peers)+len(p.down.asked) != 0 {
		t.Errorf("%d endpoints and %d probes are left when the agent is back", len(p.down.peers), len(p.down.asked))
	}
}

// TestAbsenceIsOfAPod: what was found of the pod that had an address says nothing about
// the pod that has it now.
func TestAbsenceIsOfAPod(t *testing.T) {
	p := newPool(t, nil)
	old, now := &Endpoint{Fallback: true}, &Endpoint{Fallback: true}
	old.Peer = tap.Peer{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Workload: &mesh.Workload{UID: "old", Node: "node-2"}}
	now.Peer = tap.Peer{Addr: old.Peer.Addr, Workload: &mesh.Workload{UID: "new", Node: "node-2"}}
	p.remember(old, true)
	if !p.down.is(old) || p.down.is(now) {
		t.Errorf("away: the old pod %v, the new one %v; want the old one alone", p.down.is(old), p.down.is(now))
	}
	p.remember(now, true)
	if !p.down.is(now) {
		t.Error("the new pod's agent is not found to be away")
	}
}

// TestAnotherAnswerEndsTheAbsence: if an agent answers, and cannot prove the identity, the
// connections fail for that reason.
func TestAnotherAnswerEndsTheAbsence(t *testing.T) {
	back := make(chan struct{})
	limits := func(o *Options) {
		o.Limits.HandshakeSilence, o.Limits.AgentDownTTL = 400*time.Millisecond, 10*time.Hour
	}
	s := newShaker(t, limits, func(s *shaker, c *rawio.Conn) {
		select {
		case <-back:
			s.accept(c)
		default:
			saysNothing(s, c)
		}
	})
	s.ep.Key.Identity.ServiceAccount = "other"
	reasons, _ := s.dial(1)
	s.expect(reasons, mesh.ReasonAgentDown, 1)
	close(back)
	proxytest.Eventually(t, "the identity is what connections fail for", func() bool {
		_, err := s.open(t.Context())
		return ReasonOf(err) == mesh.ReasonTLSIdentity
	})
}
