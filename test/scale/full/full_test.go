package full

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/test/ports"
	"github.com/underlane/underlane/test/scale"
	"github.com/underlane/underlane/test/scale/agents"
)

var (
	nodes    = flag.Int("full.nodes", 0, "nodes of TestFull; 0: it is not run")
	lasts    = flag.Duration("full.time", 30*time.Second, "for how long objects change")
	rates    = flag.String("full.churn", "0.01", "shares of the pods that change each second, one after the other")
	replicas = flag.Int("full.replicas", 1, "controllers")
	binary   = flag.String("full.controller", "../../../bin/controller", "the controller")
	limit    = flag.String("full.limit", "1536MiB", "memory limit of each controller, as of its container")
	priority = flag.Int("full.priority", -10, "of each controller over everything else: a nice value; it takes root")
	profiles = flag.String("full.profiles", "", "directory for profiles of the controller, which this program is then itself")
)

// TestMain is the controller, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asController {
		fmt.Fprintln(os.Stderr, runController(os.Args[2:]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// replica is a controller.
type replica struct {
	*process
	p             *plane
	n             int
	agents, web   string // addresses
	pprof         string // "": it has no profiles
	up            bool
	metricsClient http.Client
}

func (p *plane) newReplica(n int) *replica {
	return &replica{p: p, n: n, agents: ports.Reserve(p.t).String(), web: ports.Reserve(p.t).String()}
}

// start starts the controller and returns how long it took until it served.
func (r *replica) start(within time.Duration) time.Duration {
	begin := time.Now()
	args := []string{"--kubeconfig=" + r.p.kubeconfig, "--namespace=" + system, "--listen=" + r.agents, "--metrics-addr=" + r.web, "--tap-addr=", "--history-bytes=0"}
	program := *binary
	if *profiles != "" {
		if r.pprof == "" {
			r.pprof = ports.Reserve(r.p.t).String()
		}
		var err error
		if program, err = os.Executable(); err != nil {
			r.p.t.Fatal(err)
		}
		args = append([]string{asController}, append(args, "--pprof="+r.pprof)...)
	}
	r.process = r.p.startWith([]string{"GOMEMLIMIT=" + *limit}, fmt.Sprint("controller-", r.n), program, args...)
	// It shares the processors with the API server, etcd and thousands of agents, which it
	// would not in a cluster.
	_ = unix.Setpriority(unix.PRIO_PROCESS, r.cmd.Process.Pid, *priority)
	for time.Since(begin) < within {
		if resp, err := r.metricsClient.Get("http://" + r.web + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				r.up = true
				return time.Since(begin)
			}
		}
		select {
		case <-r.done:
			r.p.t.Fatalf("the controller ended: see %s", r.p.file(fmt.Sprint("controller-", r.n, ".log")))
		case <-time.After(20 * time.Millisecond):
		}
	}
	r.p.t.Fatalf("the controller does not serve after %s", within)
	return 0
}

func (r *replica) stop() {
	r.up = false
	r.kill()
}

// metric returns the sum of a metric of the controller.
func (r *replica) metric(name string) (sum float64) {
	resp, err := r.metricsClient.Get("http://" + r.web + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(io.LimitReader(resp.Body, 1<<22))
	for lines.Scan() {
		text := lines.Text()
		if rest, is := strings.CutPrefix(text, name); is && strings.ContainsRune(" {,", rune(rest[0])) {
			v, _ := strconv.ParseFloat(text[strings.LastIndexByte(text, ' ')+1:], 64)
			sum += v
		}
	}
	return sum
}

// TestFull measures: make scale-full.
func TestFull(t *testing.T) {
	if *nodes == 0 {
		return // it takes minutes, and prints figures
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	debug.SetGCPercent(200) // the agents' processor time is not what is measured
	p := newPlane(t)
	say := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	start := time.Now()
	n := p.load(*nodes)
	p.startAPI(ctx)
	say("%d nodes, %d objects in etcd, API server ready after %s", *nodes, n, time.Since(start).Round(time.Second))

	var all []*replica
	for i := range *replicas {
		r := p.newReplica(i)
		took := r.start(5 * time.Minute)
		u := r.usage()
		say("controller %d: serves after %.1f s, %.1f s of processor, %d MB", i, took.Seconds(), u.cpu.Seconds(), u.max>>20)
		say("  %s", r.heap(fmt.Sprint("ready-", i)))
		all = append(all, r)
	}
	p.setControllers(ctx, len(all))
	names := make([]string, *nodes)
	for i := range names {
		names[i] = fmt.Sprint("node-", i)
	}
	pods := *nodes * scale.PodsPerNode
	start = time.Now()
	fleet := agents.Start(agents.Options{
		Controllers: func() (up []string) {
			for _, r := range all {
				if r.up {
					up = append(up, r.agents)
				}
			}
			return up
		},
		Token: p.token,
		Anchors: func() ([]byte, error) {
			m, err := p.client.CoreV1().ConfigMaps(system).Get(ctx, "underlane-trust-anchors", metav1.GetOptions{})
			if err != nil {
				return nil, err
			}
			return []byte(m.Data["anchors.pem"]), nil
		},
	}, names, func(i int) (out []netip.Addr) {
		for j := range 20 {
			out = append(out, scale.ServiceAddr((i*20+j)*scale.PodsPerService%pods))
		}
		if i < watching {
			out = append(out, netip.MustParseAddr(probeAddr))
		}
		return out
	})
	defer fleet.Stop()
	lacking := fleet.Await(5*time.Minute, (*agents.Agent).Whole)
	say("all agents from nothing: %.1f s, %d lack something, %s", time.Since(start).Seconds(), lacking, sizes(all))
	say("  for each: %d bytes, %.1f connections", fleet.Received.Load()/uint64(*nodes), float64(fleet.Dials.Load())/float64(*nodes))
	shares(say, all)
	say("  %s", all[0].heap("agents"))

	time.Sleep(2 * time.Second)
	measure(say, "at rest", all, fleet, func() int { time.Sleep(10 * time.Second); return 0 })
	for i, text := range strings.Split(*rates, ",") {
		rate, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		f := &changing{p: p, all: all, fleet: fleet, say: say}
		f.run(ctx, fmt.Sprint("churn-", i), rate)
	}

	for _, r := range all[:1] {
		before := fleet.Received.Load()
		tokens := r.metric(`underlane_controller_certificates_total{kind="node"`)
		r.stop()
		p.setControllers(ctx, len(all)-1)
		if len(all) > 1 {
			lacking = fleet.Await(time.Minute, func(a *agents.Agent) bool { return a.Connected() })
			say("one of %d controllers is gone: %d agents lack one", len(all), lacking)
			shares(say, all[1:])
		} else {
			fleet.Await(time.Minute, func(a *agents.Agent) bool { return !a.Connected() })
			time.Sleep(5 * time.Second) // they ask as rarely as they will
		}
		ready := r.start(5 * time.Minute)
		p.setControllers(ctx, len(all))
		u := r.usage()
		say("the controller serves again after %.1f s, %.1f s of processor, %d MB", ready.Seconds(), u.cpu.Seconds(), u.max>>20)
		start = time.Now()
		lacking = fleet.Await(5*time.Minute, func(a *agents.Agent) bool { return a.Connected() })
		say("all agents are back after %.1f s, %d are not; %d bytes for each, %g node certificates (%g before), %s", time.Since(start).Seconds(), lacking,
			(fleet.Received.Load()-before)/uint64(*nodes), r.metric(`underlane_controller_certificates_total{kind="node"`), tokens, sizes(all))
	}
	if len(all) > 1 {
		for range 4 {
			time.Sleep(15 * time.Second)
			shares(say, all)
		}
	}
}

// changing is a cluster whose objects change.
type changing struct {
	p     *plane
	all   []*replica
	fleet *agents.Agents
	say   func(string, ...any)
}

// run changes a share of the pods each second, and measures.
func (c *changing) run(ctx context.Context, name string, rate float64) {
	ctx, cancel := context.WithTimeout(ctx, *lasts)
	defer cancel()
	var took, own []time.Duration
	profiled := make(chan struct{})
	measure(c.say, fmt.Sprintf("%g %% of the pods each second, if the API server takes it", rate*100), c.all, c.fleet, func() int {
		go func() { defer close(profiled); c.all[0].cpu(name, *lasts/2) }()
		changed := make(chan int)
		go func() { changed <- churn(ctx, c.p.client, *nodes, rate*float64(*nodes*scale.PodsPerNode)) }()
		var lost int
		took, own, lost = probe(ctx, c.p.client, *nodes, 100*time.Millisecond, c.fleet.All[:min(watching, *nodes)])
		if lost > 0 {
			c.p.t.Errorf("%d changes have not arrived within 2 s", lost)
		}
		return <-changed
	})
	<-profiled
	for _, line := range []struct {
		what string
		took []time.Duration
	}{{"a change of an endpoint is at an agent", took}, {"of this, after the API server has told it", own}} {
		c.say("  %s: p50 %s, p90 %s, p99 %s (%d)", line.what, percentile(line.took, 0.5).Round(time.Millisecond),
			percentile(line.took, 0.9).Round(time.Millisecond), percentile(line.took, 0.99).Round(time.Millisecond), len(line.took))
	}
}

// watching is how many agents use the Service whose endpoint changes.
const watching = 50

// measure prints what the controllers use while do runs, which returns a number of changes.
func measure(say func(string, ...any), what string, all []*replica, fleet *agents.Agents, do func() int) {
	before := make([]usage, len(all))
	deltas, bytes, published := 0.0, fleet.Received.Load(), 0.0
	for i, r := range all {
		r.resetPeak()
		before[i] = r.usage()
		deltas -= r.metric("underlane_controller_deltas_sent_total")
		published -= r.metric("underlane_controller_publications_total")
	}
	start := time.Now()
	n := do()
	took := time.Since(start).Seconds()
	cpu := time.Duration(0)
	for i, r := range all {
		cpu += r.usage().cpu - before[i].cpu
		deltas += r.metric("underlane_controller_deltas_sent_total")
		published += r.metric("underlane_controller_publications_total")
	}
	if n > 0 {
		what += fmt.Sprintf(", %.2f ms of processor for each", 1000*cpu.Seconds()/float64(n))
	}
	say("%s: %.0f changes/s, %.0f %% of a processor, %.0f publications/s, %.0f deltas/s, %.0f bytes/s for each agent, %s", what, float64(n)/took,
		100*cpu.Seconds()/took, published/took, deltas/took, float64(fleet.Received.Load()-bytes)/took/float64(len(fleet.All)), sizes(all))
}

func sizes(all []*replica) string {
	var out []string
	for _, r := range all {
		if r.up {
			u := r.usage()
			out = append(out, fmt.Sprintf("%d MB (at most %d)", u.rss>>20, u.max>>20))
		}
	}
	return strings.Join(out, ", ")
}

// shares prints how many agents each controller has.
func shares(say func(string, ...any), all []*replica) {
	var out []string
	for _, r := range all {
		out = append(out, fmt.Sprint(r.metric("underlane_controller_connected_agents")))
	}
	say("  agents of each controller: %s", strings.Join(out, ", "))
}
