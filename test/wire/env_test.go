package wire

import (
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// side is one of the two labs.
type side struct {
	*lab.Side
	players map[string]*player // in the pods
}

func upSides(t *testing.T) (bare, meshed *side) {
	t.Helper()
	b, m := lab.UpSides(t)
	return newSide(t, b), newSide(t, m)
}

func newSide(t *testing.T, l *lab.Side) *side {
	t.Helper()
	s := &side{Side: l, players: map[string]*player{}}
	for _, p := range lab.SidePods {
		s.players[p.Name] = startPlayer(t, l.Lab, p.Name)
	}
	return s
}

// way is how a client reaches a server.
type way struct {
	name, server string
	v6           bool
}

var ways = []way{
	{"same-node", "near", false},
	{"cross-node", "far", false},
	{"same-node-IPv6", "near", true},
	{"cross-node-IPv6", "far", true},
}

// scene is a scene on a side, at a port.
func (s *side) scene(w way, port int, limit time.Duration) *scene {
	family := 0
	if w.v6 {
		family = 1
	}
	return &scene{
		client: s.players["client"], server: s.players[w.server],
		addr: netip.AddrPortFrom(s.Addrs[w.server][family], uint16(port)).String(), port: port, limit: limit,
	}
}

// checkCarried fails if traffic went past the mesh, because then the rows say nothing
// about the mesh.
func (s *side) checkCarried(t *testing.T) {
	counts := s.Carried()
	t.Logf("carried by the mesh, by server, and past it: %v", counts)
	if counts["near"]+counts["far"] == 0 || counts["past"] != 0 {
		t.Errorf("got %v carried by the mesh and past it, want some and none: did the traffic go past the mesh?", counts)
	}
}
