package history

import (
	"maps"
	"math/bits"
	"slices"

	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/mesh"
)

// block has packed records. Those of most nodes are added up in one block of a step,
// because the replicas of a workload run on many nodes. A node that says much more than
// others gets blocks of its own, so that they can go before anything of others does. The
// records of a block are of one class, so that a query reads only blocks that may have its
// edges.
type block struct {
	owner string // the node that it is of; "": all nodes together
	class class
	plain bool // data is not coded by frequency
	data  []byte
}

// class divides edges by what decides whether a question is about them: which side has
// reported them, and whether the other side has an agent, too.
type class uint8

const (
	anyClass class = iota // of a block: its records are of all classes
	outboundMeshed
	outboundOnly
	inboundMeshed
	inboundOnly
	numClasses
)

func classOf(k *interned) class {
	switch outbound := k.direction == mesh.Outbound; {
	case outbound && k.destination.Meshed:
		return outboundMeshed
	case outbound:
		return outboundOnly
	case k.source.Meshed:
		return inboundMeshed
	}
	return inboundOnly
}

// shares decides which nodes get blocks of their own.
type shares struct {
	nodes   int            // that are asked
	weights map[string]int // by node: of the last minute that its agent has reported
	usual   int            // the median of weights
}

// maxShares is how many parts the budget has at least if there are as many nodes.
const maxShares = 8

// begin notes which nodes are asked. Of an even number of nodes the lower one of the two
// in the middle counts: of two nodes one that lies does not decide what is usual.
func (s *shares) begin(nodes []string) {
	before := s.weights
	s.nodes, s.weights = len(nodes), map[string]int{}
	for _, node := range nodes {
		if w, ok := before[node]; ok {
			s.weights[node] = w
		}
	}
	s.usual = 0
	if all := slices.Sorted(maps.Values(s.weights)); len(all) > 0 {
		s.usual = all[(len(all)-1)/2]
	}
}

// owner returns the owner of the block for a minute of a node with this weight: the node
// itself if it weighs more than twice what is usual, and more than a share of the budget
// has room for in 24 hours.
func (s *timeline) owner(node string, weight int) string {
	if s.shares.nodes < 2 || weight <= max(2*s.shares.usual, s.bytes/maxShares/int(keep)) {
		return ""
	}
	return s.names.text(node)
}

// inOneByte is the largest count of a bucket that histogram.Append needs no further byte for.
const inOneByte = 31

// weight estimates the bytes that a record takes, before they are compressed.
func weight(s *figures.Sums) int {
	n := 24 + 4*len(s.Failures) // numbers, parts and what TCP has
	if s.Latency != nil {
		for _, count := range s.Latency.Buckets() {
			n++
			if count > inOneByte {
				n += 1 + bits.Len64(count)/7
			}
		}
	}
	return n
}

// evict drops the oldest blocks of the node whose own blocks take the most, if they take
// more than its share, and reports whether it has done so. The step is without that node
// then.
func (s *timeline) evict() bool {
	own := map[string]int{}
	most := ""
	for _, st := range s.steps {
		for _, b := range st.blocks {
			if b.owner == "" {
				continue
			}
			if own[b.owner] += cap(b.data); own[b.owner] > own[most] {
				most = b.owner
			}
		}
	}
	if own[most] <= s.bytes/max(1, min(s.shares.nodes, maxShares)) {
		return false
	}
	for _, st := range s.steps {
		kept := slices.DeleteFunc(slices.Clone(st.blocks), func(b block) bool { return b.owner == most })
		if len(kept) < len(st.blocks) {
			for _, b := range st.blocks {
				if b.owner == most {
					s.packed -= cap(b.data)
				}
			}
			st.blocks = kept
			st.miss(most)
			s.part(st)
			return true
		}
	}
	return false
}

// own counts an edge for the node whose agent has reported it first.
func (s *edgeTable) own(e *edge) {
	k := e.key.key()
	s.owned[e.node]++
	s.named[e.node] += nameBytes(&k)
}

// nameBytes is what the names of k take at most: others may have the same ones.
func nameBytes(k *figures.Key) (n int) {
	for _, e := range []*figures.End{&k.Source, &k.Destination} {
		n += 2 * (len(e.Namespace) + len(e.Kind) + len(e.Name) + len(e.Identity)) // in the map's key, too
	}
	return n + len(k.Service.Namespace) + len(k.Service.Name) + len(k.Protocol) + len(k.TLS)
}
