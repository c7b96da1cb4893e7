package history

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/pkg/mesh"
)

// lie returns edges whose records are as large as records can be: all buckets are full.
func lie(keys []figures.Key, seed int64) (out []figures.Edge) {
	full := &figures.Sums{Success: 1 << 40, Latency: new(histogram.Histogram), Read: 1 << 60, Written: 1 << 60}
	for bucket := histogram.MinBucket; bucket <= histogram.MaxBucket; bucket++ {
		full.Latency.Add(bucket, 1<<40+uint64(bucket*int(seed))&0xffff)
	}
	for _, k := range keys {
		out = append(out, edgeOf(k, full))
	}
	return out
}

// TestLiarsLoseTheirOwn: agents whose figures fill the budget many times over push out no
// other's, whatever the edges that they speak of, and whether others lie, too.
func TestLiarsLoseTheirOwn(t *testing.T) {
	withoutRaceDetector(t)
	const minutes = 240
	honest := traffic(30, 100)[0] // 60 edges, of three nodes
	own, long := make([]figures.Key, 0, 40), make([]figures.Key, 0, 40)
	for i := range 40 {
		own = append(own, key("evil", fmt.Sprint("made-up-", i), mesh.Outbound))
		k := key("evil", fmt.Sprintf("%0300d", i), mesh.Outbound)
		k.Source.Identity, k.Destination.Identity = fmt.Sprintf("%01000d", i), fmt.Sprintf("%01000d", -i)
		long = append(long, k)
	}
	var theirs []figures.Key
	for _, e := range honest {
		theirs = append(theirs, e.Key)
	}
	for name, tc := range map[string]struct {
		liars int
		keys  func(minute int64) []figures.Key
	}{
		"edges of its own":       {1, func(int64) []figures.Key { return own }},
		"the edges of others":    {1, func(int64) []figures.Key { return theirs }},
		"other edges each time":  {1, func(m int64) []figures.Key { return append(own[m%30:m%30+10:m%30+10], theirs[m%50:m%50+10]...) }},
		"long names":             {1, func(int64) []figures.Key { return long }},
		"two of five nodes, all": {2, func(int64) []figures.Key { return append(own[:len(own):len(own)], theirs...) }},
	} {
		t.Run(name, func(t *testing.T) {
			alone, together := NewStore(1<<20), NewStore(1<<20)
			path := filepath.Join(t.TempDir(), "history")
			for m := range int64(minutes) {
				for _, s := range []*Store{alone, together} {
					nodes := []string{"node-1", "node-2", "node-3"}
					if s == together {
						for i := range tc.liars {
							nodes = append(nodes, fmt.Sprint("node-", 4+i))
						}
					}
					minute := minuteOf(epoch) + m
					s.begin(minute, nodes)
					p := pending{}
					for i, node := range nodes {
						edges := honest[min(i, 3)*len(honest)/3 : min(i+1, 3)*len(honest)/3]
						if i >= 3 {
							edges = lie(tc.keys(m), m)
						}
						s.answered(p, node, minute, 1, 0, edges)
					}
					s.commit(p)
					s.missed(minute - recent + 1)
					s.finish(minute)
				}
				if m == minutes/2 { // the shares hold after a restart, too
					if err := together.Save(path); err != nil {
						t.Fatal(err)
					}
					together = NewStore(1 << 20)
					if err := together.Load(path, epoch.Add((minutes/2+1)*time.Minute)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if n := together.Stats().Bytes; n > 1<<20 {
				t.Errorf("%d bytes are used, want at most %d", n, 1<<20)
			}
			// A liar can spoil the sums of edges that it speaks of: those are its words. What the
			// others say is kept as long and as fine as without it.
			q := Query{Start: epoch, End: epoch.Add(minutes * time.Minute), Group: everything}
			for _, s := range []*Store{alone, together} {
				for i, st := range s.steps {
					if want := int64(1); st.start >= minuteOf(epoch)+minutes-fine && st.length != want {
						t.Fatalf("step %d is of %d minutes, want %d", i, st.length, want)
					}
				}
			}
			a, b := alone.Query(q), together.Query(q)
			if !b.Trimmed.IsZero() || !b.Since.Equal(a.Since) || b.Covered != a.Covered {
				t.Errorf("trimmed %v, since %v, covered %v; want no trimming, %v, %v", b.Trimmed, b.Since, b.Covered, a.Since, a.Covered)
			}
			for _, gap := range b.Gaps {
				for _, node := range gap.Nodes {
					if node < "node-4" {
						t.Errorf("gap %v of node %s", gap, node)
					}
				}
			}
			if len(b.Gaps) == 0 {
				t.Error("no gap: want it to be told that figures of the liars are not kept")
			}
			if diff := cmp.Diff(shared(alone), shared(together)); diff != "" {
				t.Errorf("what the others have said (-without liars +with):\n%s", diff)
			}
		})
	}
}

// shared are the requests of each edge in the blocks that are of all nodes together.
func shared(s *Store) map[figures.Key]uint64 {
	out := map[figures.Key]uint64{}
	a := adder{from: &s.timeline, open: map[int]int64{}, sums: map[string]map[int]*figures.Sums{}}
	for _, st := range s.steps {
		a.step(st)
	}
	for owner, sums := range a.sums {
		if owner > "node-3" {
			continue
		}
		for id, n := range sums {
			if k := s.edges[id].key.key(); n.Requests() > 0 {
				out[k] += n.Requests()
			}
		}
	}
	return out
}

// TestReplicasShareABlock: nodes of about the same weight have no blocks of their own, so
// that a workload with replicas on all of them takes the room of one.
func TestReplicasShareABlock(t *testing.T) {
	s := NewStore(1 << 20)
	edges := traffic(20, 100)
	var nodes []string
	for i := range 16 {
		nodes = append(nodes, fmt.Sprintf("node-%02d", i))
	}
	for m := minuteOf(epoch); m < minuteOf(epoch)+60; m++ {
		s.begin(m, nodes)
		p := pending{}
		for i, node := range nodes {
			s.answered(p, node, m, 1, 0, edges[i%len(edges)])
		}
		s.commit(p)
		s.missed(m - recent + 1)
		s.finish(m)
		if st := s.steps[len(s.steps)-1]; m > minuteOf(epoch) && len(st.blocks) != 2 {
			t.Fatalf("minute %d has %d blocks, want one of each side", m-minuteOf(epoch), len(st.blocks))
		}
	}
}
