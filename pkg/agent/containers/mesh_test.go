package containers

import (
	"iter"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/agent/costs"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
)

// TestSameAsCosts: what a pod costs the agent is the same here and in the rpc Costs, where
// goroutines have worked for pods longer, by the clock, than the process had processors.
func TestSameAsCosts(t *testing.T) {
	meshed := pod(web, "web")
	meshed.Meshed = true
	n := &node{tree: fstest.MapFS{}, pods: []*mesh.Workload{meshed, pod(db, "db")}}
	used := []quota.Used{{Key: quota.Key{UID: web}, Connections: 2, Bytes: 10, Work: time.Hour}}
	ledger := costs.New(costs.Options{
		Local: func() []*mesh.Workload { return n.pods },
		Usage: func() iter.Seq[quota.Used] { return slices.Values(used) },
	})
	n.used = ledger.Costs
	run(t, n, func(t *testing.T, s *Sampler) {
		before := ledger.Costs().GetPods()[0]
		time.Sleep(2 * time.Second)
		s.meanwhile(func() {
			used = append(used, quota.Used{
				Key: quota.Key{UID: web, Direction: mesh.Inbound}, Connections: 3, Streams: 4, Bytes: 5,
				Work: time.Hour, Handshakes: time.Hour, Waited: 4 * time.Second,
			})
		})
		pods := s.Report().GetPods()
		after := ledger.Costs().GetPods()[0]
		m := pods[1].GetMesh()
		if want := (processor(after) - processor(before)).Seconds() / 2; !near(m.GetCpu(), want) || want > 1000 {
			t.Errorf("got %v processors, want the %v of the ledger, and not the 3600 of the clock", m.GetCpu(), want)
		}
		if !near(m.GetWaiting(), 2) || m.GetBuffered() != 15 || m.GetConnections() != 5 || m.GetStreams() != 4 {
			t.Errorf("got %v, want two goroutines that wait, 15 bytes, 5 connections, 4 streams", m)
		}
		if pods[0].GetMesh() != nil {
			t.Errorf("a pod that is not in the mesh costs %v, want nothing", pods[0].GetMesh())
		}
	})
}

// TestRateOfEarlierFigures: figures that the ledger made for another reader a moment ago are
// spread over the time that they are of.
func TestRateOfEarlierFigures(t *testing.T) {
	begin := time.Now()
	at := func(sampled, figures time.Duration, used, waited time.Duration) *sample {
		return &sample{at: begin.Add(sampled), costs: costTable{at: begin.Add(figures), pods: map[string]*agentv1.PodCost{
			web: {Outbound: &agentv1.Cost{Processor: durationpb.New(used), Waited: durationpb.New(waited)}},
		}}}
	}
	base := at(0, 0, time.Hour, time.Minute)
	m := at(2*time.Second, time.Second, time.Hour+time.Second, time.Minute+time.Second).mesh(web, base)
	if !near(m.GetCpu(), 1) || !near(m.GetWaiting(), 0.5) {
		t.Errorf("got %v, want one processor in the one second of the figures, and half a goroutine that waits", m)
	}
	if m := at(2*time.Second, 0, time.Hour, time.Minute).mesh(web, base); m.GetCpu() != 0 {
		t.Errorf("of the same figures: got %v, want no rate", m)
	}
}
