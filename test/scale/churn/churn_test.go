// Package churn measures what a change costs a controller while many come each second: make
// scale-churn, docs/scale.md. The controller is a real one, with TLS to thousands of real
// agents' clients in another process; an API server is not there.
package churn

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime/metrics"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/controller"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/test/scale"
)

var (
	nodes    = flag.Int("churn.nodes", 0, "nodes of TestChurn; 0: it is not run")
	rates    = flag.String("churn.rates", "50,1000", "changes a second, one after the other")
	lasts    = flag.Duration("churn.time", 10*time.Second, "for how long, each")
	steps    = flag.Bool("churn.steps", false, "wait after each 20 ms of changes until all agents have them: processor time is then that of a controller that keeps up, however busy the machine is, and delays say nothing")
	lag      = flag.Duration("churn.lag", 5*time.Millisecond, "how long after a pod its EndpointSlice changes")
	profiles = flag.String("churn.profiles", "", "directory for profiles of the processor and of what is allocated")
)

// TestChurn measures: make scale-churn.
func TestChurn(t *testing.T) {
	if *nodes == 0 {
		return // it takes minutes, and prints figures
	}
	controller.SettleMemory()
	source := newObjects(t, *nodes)
	dir := t.TempDir()
	authority, err := ca.Open(dir, trustDomain)
	if err != nil {
		t.Fatal(err)
	}
	c, err := controller.New(controller.Options{
		Cluster: func(controller.Options) (controller.Platform, error) { return &platform{authority, source}, nil },
		Listen:  "127.0.0.1:0", MetricsAddr: "127.0.0.1:0", TrustDomain: trustDomain,
		WorkloadLifetime: controller.DefaultWorkloadLifetime, NodeLifetime: controller.DefaultNodeLifetime,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	go controller.PaceCollection(ctx)
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	agents := startFleet(t, *nodes, c.Addr().String(), dir)
	start := time.Now()
	if lacking := agents.ask("whole"); lacking != "0" {
		t.Fatalf("%s agents lack something", lacking)
	}
	fmt.Printf("%d nodes, %d pods: all agents after %s, %s\n", *nodes, *nodes*scale.PodsPerNode, time.Since(start).Round(100*time.Millisecond), memory())
	b := &bench{t: t, controller: c, source: source, agents: agents, metrics: "http://" + c.MetricsAddr().String() + "/metrics"}
	for r := range strings.SplitSeq(*rates, ",") {
		rate, err := strconv.Atoi(r)
		if err != nil {
			t.Fatal(err)
		}
		b.run(rate)
	}
}

// bench makes changes and measures.
type bench struct {
	t          testing.TB
	controller *controller.Controller
	source     *objects
	agents     *fleet
	metrics    string
	runs       int
	port       int32 // of the probe, last
}

// pods is how many pods change in turn.
const pods = 1000

// run makes changes at a rate: each makes a pod not ready, or ready again, and a moment later its EndpointSlice.
func (b *bench) run(rate int) {
	var changes [2][pods]encoded
	for i := range pods {
		// 7919 is a prime: no two of a Service follow each other.
		n := (b.runs*pods + i) * 7919 % (*nodes * scale.PodsPerNode)
		changes[0][i], changes[1][i] = encodeChange(b.t, *nodes, n, false), encodeChange(b.t, *nodes, n, true)
	}
	b.runs++
	of := func(i int) *encoded { return &changes[i/pods%2][i%pods] }
	written := map[uint16]time.Time{}
	total := int(float64(rate) * lasts.Seconds())
	stop := b.profile(fmt.Sprint("churn-", rate))
	before, received := b.counters(), b.number("received")
	start := time.Now()
	due := func(i int) time.Duration { return time.Duration(i) * time.Second / time.Duration(rate) }
	step := time.Duration(0)
	for pod, slice, probes := 0, 0, 0; slice < total; {
		now := time.Since(start)
		if step += watch.Debounce; *steps {
			now = step
		}
		for ; pod < total && due(pod) <= now; pod++ {
			b.source.putPod(b.t, of(pod).pod)
		}
		for ; slice < pod && due(slice)+*lag <= now; slice++ {
			b.source.putSlice(b.t, of(slice).slice)
		}
		for ; time.Duration(probes)*100*time.Millisecond <= now; probes++ {
			b.port++
			written[uint16(b.port)] = time.Now()
			put(b.t, b.source.slices, probe(*nodes, b.port), nil)
		}
		if *steps {
			b.settle()
		} else {
			time.Sleep(time.Millisecond)
		}
	}
	took := time.Since(start)
	if *steps {
		took = step
	}
	time.Sleep(300 * time.Millisecond) // what is on its way
	after := b.counters()
	stop()
	time.Sleep(time.Second)
	each := func(name string) float64 { return (after[name] - before[name]) / float64(total) }
	fmt.Printf("%d changes a second (%.0f came): %.2f ms of processor for each, %.2f of it the collection of garbage; %.0f %% of a processor, %s\n",
		rate, float64(total)/took.Seconds(), 1000*each("cpu"), 1000*each("gc"), 100*(after["cpu"]-before["cpu"])/took.Seconds(), memory())
	fmt.Printf("  for each: %.0f KB allocated, %.1f deltas, %.1f looks, %.1f answers, %.1f values, %.0f bytes received; %.0f publications/s\n",
		each("allocated")/1024, each("deltas_sent"), each("looks"), each("answers"), each("values_computed"),
		(b.number("received")-received)/float64(total), (after["publications"]-before["publications"])/took.Seconds())
	b.arrivals(written)
}

// settle waits until what has changed is published, and all agents have it.
func (b *bench) settle() {
	changed := time.Now()
	for deadline := changed.Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		s := b.controller.Status()
		if s.AsOf.After(changed) && s.Behind == 0 {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%d agents are behind after a minute", s.Behind)
		}
	}
}

func (b *bench) number(what string) float64 {
	n, err := strconv.ParseFloat(b.agents.ask(what), 64)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// arrivals prints after what time the agents had the probe's changes.
func (b *bench) arrivals(written map[uint16]time.Time) {
	var took []time.Duration
	for s := range strings.FieldsSeq(b.agents.ask("seen")) {
		port, at, _ := strings.Cut(s, ":")
		n, _ := strconv.ParseUint(port, 10, 16)
		ns, _ := strconv.ParseInt(at, 10, 64)
		if when, ours := written[uint16(n)]; ours {
			took = append(took, time.Unix(0, ns).Sub(when))
		}
	}
	slices.Sort(took)
	if n := len(took); n > 0 {
		fmt.Printf("  a change of an endpoint is at an agent: p50 %s, p90 %s, p99 %s (%d)\n", took[n/2].Round(time.Millisecond),
			took[n*9/10].Round(time.Millisecond), took[n*99/100].Round(time.Millisecond), n)
	}
}

// counters returns what was counted since the start: the controller's metrics, and of this
// process "cpu" and "gc" in seconds, "allocated" in bytes.
func (b *bench) counters() map[string]float64 {
	out := map[string]float64{}
	resp, err := http.Get(b.metrics)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		name, labelled, _ := strings.Cut(name, "{")
		if name, ours := strings.CutPrefix(name, "underlane_controller_"); ours && labelled == "" {
			out[strings.TrimSuffix(name, "_total")], _ = strconv.ParseFloat(value, 64)
		}
	}
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.t.Fatal(err)
	}
	out["cpu"] = float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
	of := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(of)
	out["gc"], out["allocated"] = of[0].Value.Float64(), float64(of[1].Value.Uint64())
	return out
}

// profile begins profiles, and returns what ends and writes them.
func (b *bench) profile(name string) func() {
	if *profiles == "" {
		return func() {}
	}
	cpu, err := os.Create(filepath.Join(*profiles, name+".cpu"))
	if err == nil {
		err = pprof.StartCPUProfile(cpu)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	write := func(name string) {
		f, err := os.Create(filepath.Join(*profiles, name))
		if err == nil {
			err = pprof.Lookup("allocs").WriteTo(f, 0)
			f.Close()
		}
		if err != nil {
			b.t.Error(err)
		}
	}
	write(name + ".allocs-before")
	return func() {
		pprof.StopCPUProfile()
		cpu.Close()
		write(name + ".allocs-after")
	}
}

// memory says what this process has: the live heap and all that is resident.
func memory() string {
	of := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(of)
	text, _ := os.ReadFile("/proc/self/status")
	rss := "?"
	for line := range strings.Lines(string(text)) {
		if v, is := strings.CutPrefix(line, "VmRSS:"); is {
			rss = strings.TrimSpace(v)
		}
	}
	return fmt.Sprintf("%d MB live, %s resident", of[0].Value.Uint64()>>20, rss)
}
