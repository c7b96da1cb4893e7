package scale

import (
	"flag"
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/controller/kind"
	"github.com/underlane/underlane/pkg/controller/translate"
)

var sizes = flag.String("nodes", "25,100,400", "sizes of TestMeasure: numbers of nodes")

// world is a control plane without sockets: translation, snapshots, streams.
type world struct {
	nodes   int
	tr      *translate.Translator
	keeper  *server.Keeper
	server  *server.Server
	snap    *server.Snapshot
	streams []*server.Stream
}

// newWorld returns a control plane that has nothing yet. The pods of each agent use 20 Services.
func newWorld(t testing.TB, nodes, agents int) *world {
	w := &world{nodes: nodes, tr: translate.New(translate.Config{TrustDomain: "cluster.local"}), keeper: server.NewKeeper(), server: server.New(server.Options{})}
	for i := range agents {
		req := &pb.SyncRequest{Agent: &pb.Agent{Kinds: []string{"route", "ranges", "authz", "egress"}}}
		var subs []netip.Addr
		for j := range 20 {
			subs = append(subs, ServiceAddr((i*20+j)*PodsPerService%(nodes*PodsPerNode)))
		}
		req.Subscribe = codec.EncodeAddrs(subs)
		s, err := w.server.Simulate(nodeName(i), req)
		if err != nil {
			t.Fatal(err)
		}
		w.streams = append(w.streams, s)
	}
	return w
}

// apply takes changes in, and makes the snapshot.
func (w *world) apply(b translate.Batch) {
	ch := w.tr.Apply(b)
	c := server.Changes{Workloads: ch.Workloads, Services: ch.Services, Routes: ch.Routes, Egress: ch.Egress, Authz: ch.Authz, NodesSet: ch.Nodes}
	if ch.Nodes {
		c.Nodes = w.tr.Nodes()
	}
	w.snap = w.keeper.Apply(c)
	w.server.Publish(w.snap)
}

// stream returns the bytes that all agents get, and how many of them get some.
func (w *world) stream() (bytes, agents int) {
	for _, s := range w.streams {
		got := 0
		for d := s.Next(w.snap); d != nil; d = s.Next(w.snap) {
			got += proto.Size(d)
			s.Answered()
		}
		bytes += got
		agents += min(got, 1)
	}
	return bytes, agents
}

// change returns another state of an object. flip is true every second time.
type change struct {
	name string
	of   func(nodes int, flip bool) metav1.Object
}

var changes = []change{
	{"a pod's readiness", func(nodes int, flip bool) metav1.Object {
		p := Pod(nodes, 7)
		if flip {
			p.Status.Conditions[0].Status = "False"
		}
		return kind.PodOf(p)
	}},
	{"an endpoint", func(nodes int, flip bool) metav1.Object {
		if flip {
			return Slice(nodes, PodsPerService, PodsPerService-1)
		}
		return Slice(nodes, PodsPerService, PodsPerService)
	}},
	{"a route", func(_ int, flip bool) metav1.Object {
		if flip {
			return Route(0, 50)
		}
		return Route(0, 90)
	}},
	{"a policy", func(_ int, flip bool) metav1.Object {
		if flip {
			return Policy(PodsPerService, "other")
		}
		return Policy(PodsPerService, "client")
	}},
}

func one(o metav1.Object) translate.Batch {
	return translate.Batch{Changes: []translate.Change{{Object: o}}}
}

// TestMeasure prints what a control plane costs by its size: make scale.
func TestMeasure(t *testing.T) {
	if !testing.Verbose() {
		return // it prints figures: make scale
	}
	fmt.Printf("%-8s %-8s %-20s %12s %12s %12s %10s\n", "nodes", "pods", "what", "time", "processor", "allocated", "bytes")
	for _, s := range strings.Split(*sizes, ",") {
		nodes, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, nodes, nodes)
		line := func(what string, n int, do func(i int) int) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start, cpu, bytes := time.Now(), cpuTime(t), 0
			for i := range n {
				bytes += do(i)
			}
			took, used := time.Since(start)/time.Duration(n), (cpuTime(t)-cpu)/time.Duration(n)
			runtime.ReadMemStats(&after)
			fmt.Printf("%-8d %-8d %-20s %12s %12s %9d KB %10d\n", nodes, nodes*PodsPerNode, what,
				took.Round(time.Microsecond), used.Round(time.Microsecond), (after.TotalAlloc-before.TotalAlloc)/uint64(n)/1024, bytes/n)
		}
		objects := Cluster(nodes)
		line("the first state", 1, func(int) int {
			w.apply(translate.Diff(nil, objects))
			return 0
		})
		line("to all agents", 1, func(int) int {
			bytes, _ := w.stream()
			return bytes
		})
		objects = nil
		for _, c := range changes {
			line(c.name, 20, func(i int) int {
				w.apply(one(c.of(nodes, i%2 == 0)))
				bytes, _ := w.stream()
				return bytes
			})
		}
		line("1 % in a second", 1, func(int) int { return w.churn(nodes) })
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Printf("%-8d %-8d %-20s %d MB, %d KB for each pod\n", nodes, nodes*PodsPerNode, "memory", m.HeapAlloc>>20, m.HeapAlloc/uint64(nodes*PodsPerNode)>>10)
		runtime.KeepAlive(w)
	}
}

// churn makes one of a hundred pods lose its readiness and its place among the endpoints, in as
// many publications as a controller makes in a second. It returns the bytes that all agents get.
func (w *world) churn(nodes int) (bytes int) {
	const publications = 50
	pods := nodes * PodsPerNode
	for i := range publications {
		var b translate.Batch
		for n := i; n < pods/100; n += publications {
			pod := n * 7919 % pods
			p := Pod(nodes, pod)
			p.Status.Conditions[0].Status = "False"
			b.Changes = append(b.Changes, translate.Change{Object: kind.PodOf(p)}, translate.Change{Object: Slice(nodes, pod, PodsPerService-1)})
		}
		w.apply(b)
		got, _ := w.stream()
		bytes += got
	}
	return bytes
}

// cpuTime returns the processor time that this process has used.
func cpuTime(t testing.TB) time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
