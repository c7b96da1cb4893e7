package server

import "net/netip"

// mostRecent is for at least how many snapshots it is known what they changed. A stream that is further
// behind looks at everything.
const mostRecent = 64

// touched is what a Snapshot has changed of the one before. The lists may have an entry twice.
type touched struct {
	version  uint64
	all      bool         // anchors or ranges, and there were none: every agent is concerned
	names    []string     // resources whose content is new, has changed, or that are gone, but for the following
	gained   []string     // services whose content has changed, and that have lost no endpoint
	calm     []calm       // workloads of which only the readiness has changed
	relinked []relinked   // services with other workloads behind them
	rerouted []string     // services with other routes, or whose routes find other services
	nodes    []string     // nodes whose pods have changed
	held     []netip.Addr // addresses that others have, or that are those of nodes and were not, or the reverse
	backed   []netip.Addr // addresses behind which there are other services
	ported   bool         // there are other services with node ports
	egress   bool         // EgressNetworks, or their routes
}

// calm is a workload whose readiness has changed.
type calm struct{ name, node string }

// relinked is a service, and the names of the workloads that are not behind it any more.
type relinked struct {
	service string
	gone    []string
}

func (t *touched) name(name string) { t.names = append(t.names, name) }

func (t *touched) node(node string) { t.nodes = append(t.nodes, node) }

func (t *touched) empty() bool {
	return !t.all && !t.ported && !t.egress &&
		len(t.names)+len(t.gained)+len(t.calm)+len(t.relinked)+len(t.rerouted)+len(t.nodes)+len(t.held)+len(t.backed) == 0
}

// since returns what has changed since an older Snapshot, false if it is not known.
func (s *Snapshot) since(version uint64) ([]touched, bool) {
	for i := range s.recent {
		if s.recent[i].version > version {
			return s.recent[i:], s.recent[i].version == version+1
		}
	}
	return nil, s.version == version && version > 0
}
