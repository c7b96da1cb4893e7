package containers

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cgroup"
	"github.com/underlane/underlane/pkg/mesh"
)

const web, db = "0b9c6a52-4b3e-4f0e-9a55-2f7f3cbd7e01", "d3a1c9a0-77aa-4a26-8e93-51b5a0a4a002"

// node is a host with the cgroups of pods, whose files the test sets.
type node struct {
	tree fstest.MapFS
	pods []*mesh.Workload
	used func() *agentv1.CostsResponse // nil: nothing
	err  error
	// certs are the certificates that the node has.
	certs map[mesh.Identity]time.Time
	pids  map[string][]string
}

func (n *node) sampler() *Sampler {
	return New(Options{
		Node:         "node-1",
		Host:         func() ([]cgroup.Tree, error) { return []cgroup.Tree{{FS: n.tree, V2: true}}, n.err },
		Pods:         func() []*mesh.Workload { return n.pods },
		Certificates: func() map[mesh.Identity]time.Time { return n.certs },
		Costs: func() *agentv1.CostsResponse {
			if n.used == nil {
				return &agentv1.CostsResponse{Time: timestamppb.Now()}
			}
			return n.used()
		},
		Processes: func(w *mesh.Workload) ([]string, error) { return n.pids[w.UID], nil },
	})
}

// set sets what a cgroup has used: milliseconds, and periods.
func (n *node) set(dir string, used, periods, throttled int) {
	n.tree[dir+"/cpu.stat"] = &fstest.MapFile{Data: fmt.Appendf(nil, "usage_usec %d\nnr_periods %d\nnr_throttled %d\n", 1000*used, periods, throttled)}
	n.tree[dir+"/cpu.max"] = &fstest.MapFile{Data: []byte("50000 100000\n")}
}

func pod(uid, name string) *mesh.Workload {
	return &mesh.Workload{UID: uid, Namespace: "shop", Name: name, OwnerKind: "deployment", OwnerName: name}
}

// run runs the test in a bubble with the sampler's loop.
func run(t *testing.T, n *node, test func(t *testing.T, s *Sampler)) {
	synctest.Test(t, func(t *testing.T) {
		s := n.sampler()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		test(t, s)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// meanwhile changes the host while the sampler does not read it.
func (s *Sampler) meanwhile(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func only(t *testing.T, r *agentv1.ResourcesResponse) *agentv1.PodResource {
	t.Helper()
	if len(r.GetPods()) != 1 {
		t.Fatalf("got %d pods, want one: %v", len(r.GetPods()), r)
	}
	return r.GetPods()[0]
}

// TestWhatAPodIs: a pod in the mesh has an identity, and a certificate if there is one.
func TestWhatAPodIs(t *testing.T) {
	expires := time.Unix(2_000_000_000, 0).UTC()
	w := pod(web, "web")
	n := &node{tree: fstest.MapFS{}, pods: []*mesh.Workload{w}}
	s := n.sampler()
	if p := only(t, s.Report()); p.GetMeshed() || p.GetReady() || p.GetIdentity() != "" || p.GetCertificateExpires() != nil {
		t.Errorf("outside the mesh: %v", p)
	}
	w.Meshed, w.Ready, w.Identity = true, true, mesh.Identity{TrustDomain: "d", Namespace: "shop", ServiceAccount: "web"}
	w.Settings = mesh.Settings{FailClosed: true, OpaquePorts: make([]mesh.PortRange, 300)}
	if s := only(t, s.Report()).GetSettings(); len(s) != 3 || s[1].GetName() != "fail-mode" || s[1].GetValue() != "closed" || len(s[2].GetValue()) != 256 {
		t.Errorf("settings %v, want policy, fail mode, and 256 bytes of the ports", s)
	}
	if p := only(t, s.Report()); !p.GetMeshed() || !p.GetReady() || p.GetIdentity() != "spiffe://d/ns/shop/sa/web" || p.GetCertificateExpires() != nil {
		t.Errorf("without a certificate: %v", p)
	}
	n.certs = map[mesh.Identity]time.Time{w.Identity: expires}
	if p := only(t, s.Report()); !p.GetCertificateExpires().AsTime().Equal(expires) {
		t.Errorf("%v, want a certificate until %v", p, expires)
	}
}

func near(got, want float64) bool { return math.Abs(got-want) < 1e-6 }

// TestRates: a rate is an average since a sample of at least a second ago, whenever it is
// asked for.
func TestRates(t *testing.T) {
	dir := "kubepods/burstable/pod" + web
	n := &node{tree: fstest.MapFS{}, pods: []*mesh.Workload{pod(web, "web")}}
	n.set(dir, 90_000, 100, 50)
	cost := &agentv1.PodCost{
		Uid: web, Outbound: &agentv1.Cost{Connections: 2, Bytes: 10, Processor: durationpb.New(time.Minute)}, Inbound: &agentv1.Cost{},
	}
	n.used = func() *agentv1.CostsResponse {
		return &agentv1.CostsResponse{Time: timestamppb.Now(), Pods: []*agentv1.PodCost{cost}}
	}
	run(t, n, func(t *testing.T, s *Sampler) {
		p := only(t, s.Report())
		if p.GetContainers().GetCpu() != 0 || p.GetMesh().GetCpu() != 0 || p.GetContainers().GetCpuLimit() != 0.5 {
			t.Errorf("at once: %v, want no rate yet, and the limit", p)
		}
		time.Sleep(2 * time.Second)
		s.meanwhile(func() {
			n.set(dir, 90_500, 120, 55)
			cost = &agentv1.PodCost{Uid: web, Outbound: cost.GetOutbound(), Inbound: &agentv1.Cost{
				Connections: 3, Streams: 4, Bytes: 5, Processor: durationpb.New(time.Second), Waited: durationpb.New(4 * time.Second),
			}}
		})
		r := s.Report()
		p = only(t, r)
		if c := p.GetContainers(); !near(r.GetSeconds(), 2) || !near(c.GetCpu(), 0.25) || !near(c.GetThrottled(), 0.25) {
			t.Errorf("after 2 s: %v, want 0.25 processors, and throttled in a quarter of the periods", r)
		}
		if m := p.GetMesh(); !near(m.GetCpu(), 0.5) || !near(m.GetWaiting(), 2) || m.GetBuffered() != 15 || m.GetConnections() != 5 || m.GetStreams() != 4 {
			t.Errorf("the mesh's part: %v, want half a processor, two that wait, 15 bytes, 5 connections, 4 streams", m)
		}
		time.Sleep(8*time.Second + time.Millisecond) // right after a sample
		synctest.Wait()
		s.meanwhile(func() { n.set(dir, 95_000, 120, 55) })
		if r = s.Report(); r.GetSeconds() < 10 || only(t, r).GetContainers().GetThrottled() != 0.25 {
			t.Errorf("right after a sample: %v, want rates since the one before", r)
		}
	})
}

// TestRemovedContainer: the counts of a container go when it is removed.
func TestRemovedContainer(t *testing.T) {
	dir := "kubepods/pod" + web
	n := &node{tree: fstest.MapFS{}, pods: []*mesh.Workload{pod(web, "web")}}
	n.set(dir, 9000, 100, 50)
	run(t, n, func(t *testing.T, s *Sampler) {
		time.Sleep(2 * time.Second)
		s.meanwhile(func() { n.set(dir, 8000, 10, 5) })
		if c := only(t, s.Report()).GetContainers(); c.GetCpu() != 0 || c.GetThrottled() != 0 {
			t.Errorf("got %v, want no rate below 0", c)
		}
	})
}

// TestFound: cgroups are found by the pod's UID, or by its processes; those that come later,
// or move, are found a little later, and others are said to be unknown.
func TestFound(t *testing.T) {
	n := &node{tree: fstest.MapFS{}, pods: []*mesh.Workload{pod(web, "web"), pod(db, "db")}}
	n.set("kubepods/pod"+web, 1000, 0, 0)
	run(t, n, func(t *testing.T, s *Sampler) {
		r := s.Report()
		if len(r.GetPods()) != 2 || r.GetPods()[0].GetName() != "db" || r.GetPods()[0].GetContainers() != nil || r.GetPods()[1].GetContainers() == nil {
			t.Errorf("got %v, want db without its containers, and web with them", r)
		}
		if len(r.GetWarnings()) != 1 || !strings.Contains(r.GetWarnings()[0], "1 of 2 pods") || r.GetNode() != "node-1" {
			t.Errorf("warnings of %s: %q, want one of one pod of node-1", r.GetNode(), r.GetWarnings())
		}
		s.meanwhile(func() {
			n.set("k8s.io/aa", 3000, 0, 0)
			n.tree["k8s.io/aa/cgroup.procs"] = &fstest.MapFile{Data: []byte("42\n")}
			n.pids = map[string][]string{db: {"41", "42"}}
		})
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		if r = s.Report(); len(r.GetWarnings()) != 0 || r.GetPods()[0].GetContainers() == nil {
			t.Fatalf("got %v, want db, which is found by its processes", r)
		}
		time.Sleep(2 * time.Second)
		s.meanwhile(func() { n.set("k8s.io/aa", 4000, 0, 0) })
		if c := s.Report().GetPods()[0].GetContainers(); c.GetCpu() <= 0 {
			t.Errorf("got %v, want a rate", c)
		}
		s.meanwhile(func() {
			delete(n.tree, "k8s.io/aa/cpu.stat")
			delete(n.tree, "k8s.io/aa/cpu.max")
			delete(n.tree, "k8s.io/aa/cgroup.procs")
			n.set("k8s.io/bb", 9_000_000, 0, 0)
			n.tree["k8s.io/bb/cgroup.procs"] = &fstest.MapFile{Data: []byte("41\n")}
		})
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		if c := s.Report().GetPods()[0].GetContainers(); c == nil || c.GetCpu() != 0 {
			t.Errorf("in another cgroup: got %v, want it found, and nothing counted of the time before", c)
		}
	})
}

// TestNoCgroups: a host whose cgroups cannot be read is asked again.
func TestNoCgroups(t *testing.T) {
	n := &node{tree: fstest.MapFS{}, pods: []*mesh.Workload{pod(web, "web")}, err: errors.New("none is mounted")}
	n.set("kubepods/pod"+web, 1000, 0, 0)
	run(t, n, func(t *testing.T, s *Sampler) {
		if r := s.Report(); len(r.GetWarnings()) != 1 || !strings.Contains(r.GetWarnings()[0], "none is mounted") {
			t.Errorf("got %v, want a warning with the cause", r)
		}
		s.meanwhile(func() { n.err = nil })
		if r := s.Report(); len(r.GetWarnings()) != 0 || only(t, r).GetContainers() == nil {
			t.Errorf("got %v, want the pod's containers", r)
		}
	})
}
