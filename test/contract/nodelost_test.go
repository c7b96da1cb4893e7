package contract

import (
	"time"

	"github.com/underlane/underlane/test/contract/schedule"
	"github.com/underlane/underlane/test/lab/fabric"
)

// notNoticed is for how long nothing says that a node is lost. In a cluster it is most of a
// minute.
const notNoticed = 2 * time.Second

// loseNode has a node vanish: nothing comes from it any more, not even resets, and nothing
// answers in its stead. After a while its pods are deleted and others replace them on another
// node. When it is healed, there is a new node with the name and the addresses of the old
// one, and the pods are there again, at their old addresses.
func loseNode(s *stage, f schedule.Fault) (heal func()) {
	s.t.Helper()
	s.NodeExec(f.Node, "nft", "add table inet lost; "+
		"add chain inet lost in { type filter hook prerouting priority -400; }; add rule inet lost in iifname "+fabric.Uplink+" drop; "+
		"add chain inet lost out { type filter hook postrouting priority -400; }; add rule inet lost out oifname "+fabric.Uplink+" drop")
	s.KillAgent(f.Node)
	time.Sleep(notNoticed)
	for _, p := range spare {
		s.move(p, moved(p))
	}
	return func() {
		s.NodeExec(f.Node, "nft", "delete table inet lost")
		s.StartAgent(f.Node)
		for _, p := range spare {
			s.move(moved(p), p)
		}
	}
}

// move deletes a pod, makes another of the same name elsewhere, and tells the clients.
func (s *stage) move(from, to pod) {
	s.t.Helper()
	s.Delete(from.manifest(s.dir))
	s.vacate(from)
	addrs, home := s.addrs[to.name], to.node == node3
	if home { // an attempt may have waited for that, and be answered at once
		s.occupy(to, addrs)
	}
	s.Apply(to.manifest(s.dir))
	if !home {
		addrs = s.Pod(to.name).IPs
		s.occupy(to, addrs)
	}
	if _, isTarget := s.targets[to.name]; !isTarget {
		return
	}
	for _, c := range s.clients {
		c.tell(to.name, addrs)
	}
}
