package upstream

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// knows makes the pool's state have the endpoint's pod.
func (s *shaker) knows(terminating bool) {
	s.t.Helper()
	w := *s.ep.Peer.Workload
	w.Terminating = terminating
	r := state.Resource{Name: state.WorkloadName(w.UID), Version: map[bool]string{true: "2", false: "1"}[terminating], Workload: &w}
	if err := s.State.(*proxytest.State).Store.Apply(state.Delta{Resources: []state.Resource{r}, Synced: true}); err != nil {
		s.t.Fatal(err)
	}
}

// A pod that is being deleted and refuses connections has ended: its agent is not away. Of
// any other pod a refused connection means that the agent is away.
func TestTerminatingPodThatRefuses(t *testing.T) {
	for _, c := range []struct {
		terminating, fallback bool
		want                  mesh.Reason
	}{
		{false, false, mesh.ReasonAgentDown},
		{false, true, mesh.ReasonConnectRefused},
		{true, false, mesh.ReasonPodGone},
		{true, true, mesh.ReasonPodGone},
	} {
		s := newShaker(t, func(o *Options) { o.Network = &failingNetwork{err: unix.ECONNREFUSED} }, saysNothing)
		s.ep.Fallback = c.fallback
		s.knows(c.terminating)
		reasons, _ := s.dial(1)
		s.expect(reasons, c.want, 1)
		if got, want := s.down.is(&s.ep), c.want == mesh.ReasonAgentDown; got != want {
			t.Errorf("%+v: the agent counts as away: %v, want %v", c, got, want)
		}
		_, err := s.open(t.Context())
		if !TriesNextEndpoint(ReasonOf(err)) {
			t.Errorf("%+v: %v, want that another endpoint is tried", c, err)
		}
	}
}

// A pod that is being deleted finishes what it has: that it accepts no new connections does
// not cut the others.
func TestTerminatingPodKeepsItsConnections(t *testing.T) {
	s := newShaker(t, func(o *Options) { o.Network = &failingAfter{first: 1, err: unix.ECONNREFUSED} }, (*shaker).accept)
	s.knows(false)
	c, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.knows(true)
	var monitored *monitoredConn
	s.agents.mu.Lock()
	for monitored = range s.agents.conns[s.ep.Peer.Addr] {
	}
	s.agents.mu.Unlock()
	s.probeAgent(monitored)
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("the connection gives %d bytes, %v; want the echo", n, err)
	}
}
