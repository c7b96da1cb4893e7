package churn

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/underlane/underlane/pkg/controller"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

// What the controller's process is told, each with a length and bytes: objects as the API server
// sends them, first all of a list with their kinds, or a question.
const (
	listedOne   = 'o'
	listed      = 'e' // the end of the list
	putPod      = 'p'
	putSlice    = 's'
	removeSlice = 'd'
	question    = 'q'
)

// traced is in the environment of a controller's process that writes execution traces.
const traced = "CHURN_TRACE"

// plane is the controller's process.
type plane struct {
	*controller.Controller
	source  *objects
	metrics string
	profile func() error // ends profiles
}

// runController runs a controller with the objects of a cluster, and takes on standard input
// how they change.
func runController(args []string) error {
	f := flag.NewFlagSet(asController, flag.ExitOnError)
	dir := f.String("ca", "", "")
	processor := f.Int("processor", -1, "")
	_ = f.Parse(args)
	if err := pin(*processor); err != nil {
		return err
	}
	controller.SettleMemory()
	controller.SettleProcessors()
	in := bufio.NewReaderSize(os.Stdin, 64<<10)
	source, err := newObjects(in)
	if err != nil {
		return err
	}
	authority, err := ca.Open(*dir, trustDomain)
	if err != nil {
		return err
	}
	c, err := controller.New(controller.Options{
		Cluster: func(controller.Options) (controller.Platform, error) { return &platform{authority, source}, nil },
		Listen:  "127.0.0.1:0", MetricsAddr: "127.0.0.1:0", TrustDomain: trustDomain,
		WorkloadLifetime: controller.DefaultWorkloadLifetime, NodeLifetime: controller.DefaultNodeLifetime,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	go controller.PaceCollection(ctx)
	p := &plane{Controller: c, source: source, metrics: "http://" + c.MetricsAddr().String() + "/metrics"}
	if err := p.follow(in); err != nil {
		return err
	}
	cancel()
	return <-ended
}

// receive returns the next that is told.
func receive(in *bufio.Reader) (what byte, b []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, nil, err
	}
	b = make([]byte, binary.BigEndian.Uint32(head[1:]))
	_, err = io.ReadFull(in, b)
	return head[0], b, err
}

// follow takes in changes and answers questions until the input ends.
func (p *plane) follow(in *bufio.Reader) error {
	for {
		told, b, err := receive(in)
		if err != nil {
			return nil
		}
		switch told {
		case putPod:
			o := &corev1.Pod{}
			if err = o.Unmarshal(b); err == nil {
				err = p.source.pods.Update(o)
			}
		case putSlice, removeSlice:
			err = p.changeSlice(told, b)
		case question:
			var answer string
			if answer, err = p.answer(string(b)); err == nil {
				fmt.Println(answer)
			}
		}
		if err != nil {
			return err
		}
	}
}

func (p *plane) changeSlice(told byte, b []byte) error {
	o := &discoveryv1.EndpointSlice{}
	if err := o.Unmarshal(b); err != nil {
		return err
	}
	if told == removeSlice {
		return p.source.slices.Delete(o)
	}
	return p.source.slices.Update(o)
}

func (p *plane) answer(what string) (string, error) {
	what, arg, _ := strings.Cut(what, " ")
	switch what {
	case "address":
		for !p.Status().Serving {
			time.Sleep(10 * time.Millisecond)
		}
		return p.Addr().String(), nil
	case "memory":
		return memory(), nil
	case "heap":
		runtime.GC() // so that the profile has no garbage
		return parts(), writeProfile("heap", arg)
	case "threads":
		n, err := strconv.Atoi(arg)
		if err == nil {
			runtime.GOMAXPROCS(n)
		}
		return "", err
	case "settled":
		return strconv.Itoa(p.settle()), nil
	case "counters":
		all, err := p.counters()
		if err != nil {
			return "", err
		}
		b, err := json.Marshal(all)
		return string(b), err
	case "profile":
		return "", p.startProfile(arg)
	case "stop":
		return "", p.profile()
	}
	return "", fmt.Errorf("what is %q?", what)
}

// settle waits until what has changed is published, and all agents have it. It returns how many
// agents do not have it after a minute.
func (p *plane) settle() int {
	changed := time.Now()
	p.source.debouncer.Trigger() // if everything is published already, nothing else makes AsOf later
	for deadline := changed.Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		s := p.Status()
		if s.AsOf.After(changed) && s.Behind == 0 {
			return 0
		}
		if time.Now().After(deadline) {
			return max(s.Behind, 1)
		}
	}
}

// counters returns what was counted since the start: the controller's metrics, and of this
// process "cpu" and "gc" in seconds, with the parts of that which those that allocate do and
// which nobody else wanted the processor for, and "allocated" in bytes.
func (p *plane) counters() (map[string]float64, error) {
	out := map[string]float64{}
	resp, err := http.Get(p.metrics)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		name, labelled, _ := strings.Cut(name, "{")
		if name, ours := strings.CutPrefix(name, "underlane_controller_"); ours && labelled == "" {
			out[strings.TrimSuffix(name, "_total")], _ = strconv.ParseFloat(value, 64)
		}
	}
	of := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/cpu/classes/gc/total:cpu-seconds"},
		{Name: "/cpu/classes/gc/mark/assist:cpu-seconds"},
		{Name: "/cpu/classes/gc/mark/idle:cpu-seconds"},
	}
	metrics.Read(of)
	out["allocated"], out["collections"] = float64(of[0].Value.Uint64()), float64(of[1].Value.Uint64())
	out["gc"], out["gc_assist"], out["gc_idle"] = of[2].Value.Float64(), of[3].Value.Float64(), of[4].Value.Float64()
	out["cpu"] = seconds()
	return out, nil
}

// startProfile begins profiles, in files that begin with path.
func (p *plane) startProfile(path string) error {
	cpu, err := os.Create(path + ".cpu")
	if err == nil {
		err = pprof.StartCPUProfile(cpu)
	}
	if err != nil {
		return err
	}
	if err := startTrace(path + ".trace"); err != nil {
		return err
	}
	p.profile = func() error {
		trace.Stop()
		pprof.StopCPUProfile()
		cpu.Close()
		return writeProfile("allocs", path+".allocs-after")
	}
	return writeProfile("allocs", path+".allocs-before")
}

// startTrace begins an execution trace, if this process is to have one.
func startTrace(path string) error {
	if os.Getenv(traced) == "" {
		return nil
	}
	f, err := os.Create(filepath.Clean(path))
	if err != nil {
		return err
	}
	return trace.Start(f) // the file is closed with the process
}

// writeProfile writes a profile of the runtime, unless path is empty.
func writeProfile(name, path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer f.Close()
	return pprof.Lookup(name).WriteTo(f, 0)
}

// parts says what the memory of this process is made of.
func parts() string {
	names := []string{"heap/objects", "heap/unused", "heap/free", "heap/released", "heap/stacks", "metadata/mspan/inuse", "metadata/other", "os-stacks", "profiling/buckets", "other"}
	var of []metrics.Sample
	for _, name := range names {
		of = append(of, metrics.Sample{Name: "/memory/classes/" + name + ":bytes"})
	}
	metrics.Read(of)
	var out []string
	for i, name := range names {
		out = append(out, fmt.Sprintf("%s %d", name, of[i].Value.Uint64()>>20))
	}
	return "MB of " + strings.Join(out, ", ")
}

// memory says what this process has: the live heap and all that is resident.
func memory() string {
	of := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(of)
	text, _ := os.ReadFile("/proc/self/status")
	rss := 0
	for line := range strings.Lines(string(text)) {
		if v, is := strings.CutPrefix(line, "VmRSS:"); is {
			rss, _ = strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(v), " kB"))
		}
	}
	return fmt.Sprintf("%d MB live, %d MB resident", of[0].Value.Uint64()>>20, rss>>10)
}

// remote is the controller's process as the test has it.
type remote struct{ *child }

func startController(t testing.TB, dir string, processor int) *remote {
	var env []string
	if *traces {
		env = []string{traced + "=1"}
	}
	return &remote{startChild(t, asController, env, "--ca="+dir, fmt.Sprint("--processor=", processor))}
}

// tell sends a change. Nothing is written before flush.
func (r *remote) tell(w *bufio.Writer, what byte, b []byte) {
	head := binary.BigEndian.AppendUint32([]byte{what}, uint32(len(b)))
	if _, err := w.Write(append(head, b...)); err != nil {
		r.t.Fatal("the controller:", err)
	}
}

func (r *remote) ask(what string) string {
	w := bufio.NewWriter(r.in)
	r.tell(w, question, []byte(what))
	if err := w.Flush(); err != nil {
		r.t.Fatal("the controller:", err)
	}
	return r.answer(what)
}

// counters returns the answer to that question.
func (r *remote) counters() (out map[string]float64) {
	if err := json.Unmarshal([]byte(r.ask("counters")), &out); err != nil {
		r.t.Fatal(err)
	}
	return out
}
