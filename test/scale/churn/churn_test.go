// Package churn measures what a change costs a controller while many come each second: make
// scale-churn, docs/scale.md. The controller is a real one, with the real stores and TLS to
// thousands of agents; an API server is not there. It has one processor, and nothing else has
// that. The agents, and what makes the changes and measures, have another one.
package churn

import (
	"bufio"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/test/scale"
)

var (
	nodes    = flag.Int("churn.nodes", 0, "nodes of TestChurn; 0: it is not run")
	rates    = flag.String("churn.rates", "200,1000", "changes a second, one after the other")
	lasts    = flag.Duration("churn.time", 20*time.Second, "for how long, each")
	steps    = flag.Bool("churn.steps", false, "wait after each 20 ms of changes until all agents have them: processor time is then that of a controller that keeps up, however busy the machine is, and delays say nothing")
	lag      = flag.Duration("churn.lag", 5*time.Millisecond, "how long after a pod its EndpointSlice changes")
	threads  = flag.String("churn.threads", "2", "GOMAXPROCS of the controller, one after the other at each rate; 2 is what it has by itself")
	traces   = flag.Bool("churn.traces", false, "with profiles: execution traces, too")
	profiles = flag.String("churn.profiles", "", "directory for profiles of the processor and of what is allocated")
)

// TestChurn measures: make scale-churn.
func TestChurn(t *testing.T) {
	if *nodes == 0 {
		return // it takes minutes, and prints figures
	}
	dir := t.TempDir()
	if _, err := ca.Open(dir, trustDomain); err != nil {
		t.Fatal(err)
	}
	one, other := processors()
	c := startController(t, dir, one)
	if err := pin(other); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	out := bufio.NewWriterSize(c.in, 64<<10)
	c.list(out, *nodes)
	addr := c.ask("address")
	fmt.Printf("%d nodes, %d pods: the controller on processor %d, and the rest on %d; serves after %s, %s\n", *nodes, *nodes*scale.PodsPerNode, one, other,
		time.Since(start).Round(100*time.Millisecond), c.ask("memory"))
	fmt.Println(" ", c.ask("heap"))
	start = time.Now()
	agents := startFleet(t, *nodes, addr, dir, other)
	if lacking := agents.ask("whole"); lacking != "0" {
		t.Fatalf("%s agents lack something; lost: %s", lacking, agents.ask("lost"))
	}
	fmt.Printf("all agents after %s, %s\n", time.Since(start).Round(100*time.Millisecond), c.ask("memory"))
	time.Sleep(settling)
	heap := "heap"
	if *profiles != "" {
		heap += " " + filepath.Join(*profiles, "agents.heap")
	}
	fmt.Println(" ", c.ask(heap))
	b := &bench{t: t, controller: c, agents: agents, out: out, port: 1}
	for r := range strings.SplitSeq(*rates, ",") {
		rate, err := strconv.Atoi(r)
		if err != nil {
			t.Fatal(err)
		}
		for n := range strings.SplitSeq(*threads, ",") {
			c.ask("threads " + n)
			fmt.Printf("GOMAXPROCS %s: ", n)
			b.run(rate, n)
		}
	}
	if lacking := c.ask("settled"); lacking != "0" {
		t.Errorf("%s agents are behind after a minute", lacking)
	}
	if lost := agents.ask("lost"); !strings.HasPrefix(lost, "0 ") {
		t.Errorf("agents have lost their stream: %s", lost)
	}
}

// settling is for what the start has left behind: collections, and late answers.
const settling = 6 * time.Second

// bench makes changes and measures.
type bench struct {
	t          testing.TB
	controller *remote
	agents     *fleet
	out        *bufio.Writer // to the controller
	runs       int
	port       int32 // of the probe's endpoint, the newest
	both       bool  // that before is there, too
}

const (
	// probing is how often an endpoint of the probe comes or goes.
	probing = 100 * time.Millisecond
	// pods is how many pods change in turn, at most.
	pods = 20000
)

// changes returns the changes of one run: first that pods are not ready, and then that they
// are. There is nobody for whom two of them come at once but by chance.
func (b *bench) changes(total int) (out [2][]encoded) {
	for i := range min((total+1)/2, pods, *nodes*scale.PodsPerNode) {
		// 7919 is a prime: no two of a Service follow each other.
		n := (b.runs*pods + i) * 7919 % (*nodes * scale.PodsPerNode)
		for j, ready := range []bool{false, true} {
			e, err := encodeChange(*nodes, n, ready)
			if err != nil {
				b.t.Fatal(err)
			}
			out[j] = append(out[j], e)
		}
	}
	b.runs++
	return out
}

// written is when a change of the probe was written: an endpoint that is new, or gone.
type written map[string]time.Time

// run makes changes at a rate: each makes a pod not ready, or ready again, and a moment later its EndpointSlice.
func (b *bench) run(rate int, threads string) {
	total := int(float64(rate) * lasts.Seconds())
	changes := b.changes(total)
	n := len(changes[0])
	of := func(i int) *encoded { return &changes[i/n%2][i%n] }
	if *profiles != "" {
		b.controller.ask("profile " + filepath.Join(*profiles, fmt.Sprint("churn-", rate, "-", threads)))
	}
	probes := written{}
	before, received, used := b.controller.counters(), b.agents.counted(), seconds()
	start := time.Now()
	due := func(i int) time.Duration { return time.Duration(i) * time.Second / time.Duration(rate) }
	step, probed, late := time.Duration(0), time.Duration(0), time.Duration(0)
	for pod, slice := 0, 0; slice < total; {
		now := time.Since(start)
		if step += watch.Debounce; *steps {
			now = step
		}
		for ; pod < total && due(pod) <= now; pod++ {
			b.controller.tell(b.out, putPod, of(pod).pod)
		}
		for ; slice < pod && due(slice)+*lag <= now; slice++ {
			late = max(late, now-due(slice)-*lag)
			b.controller.tell(b.out, putSlice, of(slice).slice)
		}
		if now >= probed {
			probed += probing
			b.probe(probes)
		}
		if err := b.out.Flush(); err != nil {
			b.t.Fatal("the controller:", err)
		}
		if *steps {
			if lacking := b.controller.ask("settled"); lacking != "0" {
				b.t.Fatalf("%s agents are behind after a minute", lacking)
			}
		} else {
			time.Sleep(time.Millisecond)
		}
	}
	took := time.Since(start)
	time.Sleep(300 * time.Millisecond) // what is on its way
	after := b.controller.counters()
	if *profiles != "" {
		b.controller.ask("stop")
	}
	if *steps {
		took = step
	}
	b.print(rate, total, took, before, after)
	got := b.agents.counted()
	fmt.Printf("  for each: %.0f bytes received; agents %.0f %% of a processor, the generator %.0f %%, at most %s late\n", (got.bytes-received.bytes)/float64(total),
		100*(got.cpu-received.cpu)/took.Seconds(), 100*(seconds()-used)/took.Seconds(), late.Round(time.Millisecond))
	time.Sleep(time.Second)
	b.arrivals(probes)
}

// probe has an endpoint more of the probe, or removes the one before.
func (b *bench) probe(when written) {
	what, sign, port := byte(putSlice), "+", b.port+1
	if b.both = !b.both; b.both {
		b.port++
	} else {
		what, sign, port = removeSlice, "-", b.port-1
	}
	o, err := probe(*nodes, port).Marshal()
	if err != nil {
		b.t.Fatal(err)
	}
	when[fmt.Sprint(sign, port)] = time.Now()
	b.controller.tell(b.out, what, o)
}

func (b *bench) print(rate, total int, took time.Duration, before, after map[string]float64) {
	each := func(name string) float64 { return (after[name] - before[name]) / float64(total) }
	fmt.Printf("%d changes a second (%.0f came): %.3f ms of processor for each, %.3f of it the collection of garbage (%.0f times; %.3f by those that allocate, %.3f when nothing else was to do); %.0f %% of a processor, %s\n",
		rate, float64(total)/took.Seconds(), 1000*each("cpu"), 1000*each("gc"), after["collections"]-before["collections"],
		1000*each("gc_assist"), 1000*each("gc_idle"), 100*(after["cpu"]-before["cpu"])/took.Seconds(), b.controller.ask("memory"))
	fmt.Printf("  for each: %.0f KB allocated, %.1f deltas, %.1f resources, %.1f looks, %.1f answers, %.1f values; %.0f publications/s\n",
		each("allocated")/1024, each("deltas_sent"), each("resources_sent"), each("looks"), each("answers"), each("values_computed"),
		(after["publications"]-before["publications"])/took.Seconds())
}

// arrivals prints after what time the agents had the probe's changes.
func (b *bench) arrivals(when written) {
	took := map[byte][]time.Duration{}
	for s := range strings.FieldsSeq(b.agents.ask("seen")) {
		what, at, _ := strings.Cut(s, ":")
		ns, _ := strconv.ParseInt(at, 10, 64)
		if at, ours := when[what]; ours {
			took[what[0]] = append(took[what[0]], time.Unix(0, ns).Sub(at))
		}
	}
	for _, kind := range []struct {
		sign byte
		what string
	}{{'-', "an endpoint that is gone"}, {'+', "an endpoint that is new"}} {
		d := took[kind.sign]
		slices.Sort(d)
		n := len(d)
		if n == 0 {
			b.t.Errorf("no agent has seen %s", kind.what)
			continue
		}
		fmt.Printf("  %s is so at an agent: p50 %s, p90 %s, p99 %s (%d)\n", kind.what, d[n/2].Round(time.Millisecond),
			d[n*9/10].Round(time.Millisecond), d[n*99/100].Round(time.Millisecond), n)
	}
}
