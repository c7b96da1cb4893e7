package scale

import (
	"flag"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/controller/translate"
)

var sizes = flag.String("nodes", "25,100,400", "sizes of TestMeasure: numbers of nodes")

// world is a control plane without sockets: objects, translation, snapshot, streams.
type world struct {
	nodes   int
	objects *translate.Objects
	tr      *translate.Translator
	from    *translate.Objects // what tr has
	last    *server.Snapshot
	streams []*server.Stream
}

func newWorld(t testing.TB, nodes, agents int) *world {
	w := &world{nodes: nodes, objects: Cluster(nodes), tr: translate.New(translate.Config{TrustDomain: "cluster.local"})}
	for i := range agents {
		// Each agent's pods use 20 Services.
		req := &pb.SyncRequest{Agent: &pb.Agent{Kinds: []string{"route", "ranges", "authz", "egress"}}}
		var subs []netip.Addr
		for j := range 20 {
			subs = append(subs, ServiceAddr((i*20+j)*PodsPerService%(nodes*PodsPerNode)))
		}
		req.Subscribe = codec.EncodeAddrs(subs)
		s, err := server.NewStream(nodeName(i), req)
		if err != nil {
			t.Fatal(err)
		}
		w.streams = append(w.streams, s)
	}
	return w
}

// publish translates and returns the bytes that all agents get.
func (w *world) publish() (bytes int) {
	now := *w.objects
	w.tr.Apply(translate.Diff(w.from, &now))
	w.from = &now
	r := w.tr.Result()
	version := uint64(1)
	if w.last != nil {
		version = w.last.Version() + 1
	}
	w.last = server.NewSnapshot(version, server.Content{
		Workloads: r.Workloads, Services: r.Services, Routes: r.Routes, Authz: r.Authz, Egress: r.Egress, Nodes: r.Nodes,
	}, w.last)
	for _, s := range w.streams {
		for d := s.Next(w.last); d != nil; d = s.Next(w.last) {
			bytes += proto.Size(d)
			s.Answered()
		}
	}
	return bytes
}

// change replaces an object. flip is true every second time.
type change struct {
	name string
	do   func(w *world, flip bool)
}

func replace[T any](list *[]T, at int, v T) {
	*list = slices.Clone(*list)
	(*list)[at] = v
}

var changes = []change{
	{"a pod's readiness", func(w *world, flip bool) {
		p := Pod(w.nodes, 7)
		if flip {
			p.Status.Conditions[0].Status = "False"
		}
		replace(&w.objects.Pods, 7, p)
	}},
	{"an endpoint", func(w *world, flip bool) {
		n := PodsPerService
		if flip {
			n--
		}
		replace(&w.objects.EndpointSlices, 1, Slice(w.nodes, PodsPerService, n))
	}},
	{"a route", func(w *world, flip bool) {
		weight := int32(90)
		if flip {
			weight = 50
		}
		replace(&w.objects.HTTPRoutes, 0, Route(0, weight))
	}},
	{"a policy", func(w *world, flip bool) {
		account := "client"
		if flip {
			account = "other"
		}
		replace(&w.objects.PolicyObjects, 0, Policy(PodsPerService, account))
	}},
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
		line("the first", 1, func(int) int { return w.publish() })
		for _, c := range changes {
			line(c.name, 4, func(i int) int {
				c.do(w, i%2 == 0)
				return w.publish()
			})
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Printf("%-8d %-8d %-20s %d MB, %d KB for each pod\n", nodes, nodes*PodsPerNode, "memory", m.HeapAlloc>>20, m.HeapAlloc/uint64(nodes*PodsPerNode)>>10)
		runtime.KeepAlive(w)
	}
}

// cpuTime returns the processor time that this process has used.
func cpuTime(t testing.TB) time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
