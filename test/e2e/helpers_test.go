package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/tap/render"
	"github.com/underlane/underlane/pkg/tap/wire"
	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/slow"
)

// patience bounds every wait: the machine may be slow, a product that hangs
// must still fail.
var patience = slow.Times(time.Minute)

// node1 and node2 are the lab's usual nodes.
const (
	node1 = "node-1"
	node2 = "node-2"
)

// podSpec is a Pod's manifest in few words. Its zero Namespace is "default".
type podSpec struct {
	Name, Namespace, Node string
	Account               string // service account
	Labels, Annotations   map[string]string
	Command               []string
	Ports                 []int
}

// meshed is the label that takes a pod into the mesh.
var meshed = map[string]string{"underlane.io/mesh": "enabled"}

// manifest is the pod as YAML, its own document.
func (p podSpec) manifest() string {
	pod := map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": p.Name, "namespace": or(p.Namespace, "default"), "labels": merge(map[string]string{"app": p.Name}, p.Labels), "annotations": merge(nil, p.Annotations)},
	}
	var ports []any
	for _, n := range p.Ports {
		ports = append(ports, map[string]any{"containerPort": n})
	}
	spec := map[string]any{"containers": []any{map[string]any{"name": "main", "command": p.Command, "ports": ports}}}
	if p.Node != "" {
		spec["nodeName"] = p.Node
	}
	if p.Account != "" {
		spec["serviceAccountName"] = p.Account
	}
	pod["spec"] = spec
	text, err := json.Marshal(pod)
	if err != nil {
		panic(err) // maps of strings
	}
	return "---\n" + string(text) + "\n"
}

// serverPod is a meshed pod with every server of labtest.
func serverPod(name, node string) podSpec {
	return podSpec{Name: name, Node: node, Labels: meshed, Command: []string{"labtest", "all"}, Ports: []int{8080, 7000, 7001, 7002}}
}

// clientPod is a meshed pod that waits for programs to be run in it.
func clientPod(name, node string) podSpec {
	return podSpec{Name: name, Node: node, Labels: meshed, Command: []string{"labtest", "wait"}}
}

// manifests joins pods into one manifest.
func manifests(pods ...podSpec) string {
	var b strings.Builder
	for _, p := range pods {
		b.WriteString(p.manifest())
	}
	return b.String()
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

func merge(a, b map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// event is a line of `agent tap -o json`.
type event struct {
	Source, Destination struct {
		IP       string
		Port     uint16
		Metadata map[string]string
	}
	RouteMeta        map[string]string
	ProxyDirection   string // INBOUND, OUTBOUND
	RequestInitEvent *struct {
		Method, Scheme, Authority, Path string
	}
	ResponseInitEvent *struct {
		HTTPStatus int `json:"httpStatus"`
	}
	ResponseEndEvent *struct {
		Method, Authority, Path string
		HTTPStatus              int `json:"httpStatus"`
		GRPCStatusCode          int `json:"grpcStatusCode"`
		RequestBytes            uint64
		ResponseBytes           uint64
		GRPC, Reset, Success    bool
	}
	Policy         *struct{ Verdict, Object, Rule, Failed string }
	ConnOpenEvent  *struct{ Process string }
	ConnCloseEvent *struct {
		Event                    string // close, refused, reset, denied, unreachable, failed
		Duration, SRTT           duration
		SentBytes, ReceivedBytes uint64
		Retransmits              uint32
		Process                  string
	}
	Time                               time.Time
	Origin, TLS, Protocol, SNI, Reason string
	DNSName                            string

	line string
}

type duration struct {
	Seconds int64
	Nanos   int32
}

func (d duration) get() time.Duration {
	return time.Duration(d.Seconds)*time.Second + time.Duration(d.Nanos)
}

func (e event) String() string { return e.line }

// tapReader reads the tap of a node, as `agent tap -o json` does.
type tapReader struct {
	t    testing.TB
	node string

	mu     sync.Mutex
	events []event
	lost   uint64
	warns  []string
	more   chan struct{} // closed and replaced at each batch
	err    error
}

// startTap taps a node until the test's end, or the agent's. What happens
// after it returns is seen. It is not the command itself, which does not say
// when it begins to listen, but the same calls.
func startTap(t testing.TB, l *lab.Lab, node string) *tapReader {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+nodeOf(t, l, node).Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := agentv1.NewNodeClient(conn).Tap(ctx, &agentv1.TapRequest{})
	if err == nil {
		_, err = stream.Header()
	}
	if err != nil {
		cancel()
		t.Fatalf("tap of %s: %v", node, err)
	}
	r := &tapReader{t: t, node: node, more: make(chan struct{})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			batch, err := stream.Recv()
			r.add(batch, err)
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = conn.Close()
	})
	return r
}

func (r *tapReader) add(batch *agentv1.TapEvents, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	r.lost += batch.GetLost()
	r.warns = append(r.warns, batch.GetWarnings()...)
	for _, m := range batch.GetEvents() {
		raw := wire.FromProto(m)
		line, err := render.JSON(&raw)
		e := event{line: string(line)}
		if err == nil {
			err = json.Unmarshal(line, &e)
		}
		if err != nil {
			r.t.Errorf("tap of %s: %s: %v", r.node, line, err)
		}
		r.events = append(r.events, e)
	}
	close(r.more)
	r.more = make(chan struct{})
}

// warned reports whether a warning has a text in it.
func (r *tapReader) warned(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.warns, func(w string) bool { return strings.Contains(w, text) })
}

// all are the events so far that match.
func (r *tapReader) all(match func(event) bool) []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []event
	for _, e := range r.events {
		if match(e) {
			out = append(out, e)
		}
	}
	return out
}

// wait waits for an event that matches, past or to come, and gives the first.
func (r *tapReader) wait(what string, match func(event) bool) event {
	r.t.Helper()
	limit := time.After(patience)
	seen := 0
	for {
		r.mu.Lock()
		events, more := r.events, r.more
		r.mu.Unlock()
		for ; seen < len(events); seen++ {
			if match(events[seen]) {
				return events[seen]
			}
		}
		select {
		case <-more:
		case <-limit:
			var last []string
			for _, e := range events[max(0, len(events)-20):] {
				last = append(last, e.line)
			}
			r.t.Fatalf("tap of %s does not show %s; the last of %d events:\n%s\n%v", r.node, what, len(events), strings.Join(last, "\n"), r.err)
		}
	}
}

// nodeOf is a node's place in the lab: its socket, pins, cgroup, agent.
func nodeOf(t testing.TB, l *lab.Lab, name string) api.Node {
	t.Helper()
	for _, n := range l.State().Nodes {
		if n.Name == name {
			return n
		}
	}
	t.Fatalf("there is no node %q in the lab", name)
	return api.Node{}
}

// nodeStatus is `agent status -o json`.
type nodeStatus struct {
	Ready      bool
	NotReady   []string
	Controller struct {
		Connected bool
		LastError string
	}
	SnapshotVersion uint64
	Synced          bool
	Pods            []struct {
		Namespace, Name, State, Reason, Identity string
		PreMeshConnections                       uint32
	}
	Certificates                                              []struct{ Identity, State string }
	KernelEvents                                              map[string]uint64
	RingbufLost, TapLost, OpenConnections, PlaintextFallbacks uint64
}

// agentStatus asks an agent; an agent that is not ready is no failure.
func agentStatus(t testing.TB, l *lab.Lab, node string) nodeStatus {
	t.Helper()
	s, err := tryStatus(l, node)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tryStatus(l *lab.Lab, node string) (nodeStatus, error) {
	var s nodeStatus
	r := l.TryAgent(node, "status", "-o", "json")
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
		return s, fmt.Errorf("agent status of %s: %w: %s", node, err, r)
	}
	return s, nil
}

// podState is the state of a pod "namespace/name" at its node's agent, "" if
// the agent has no such pod.
func (s nodeStatus) podState(ref string) string {
	for _, p := range s.Pods {
		if p.Namespace+"/"+p.Name == ref {
			return p.State
		}
	}
	return ""
}

// waitEnrolled waits until the agents of the pods' nodes have them enrolled.
func waitEnrolled(t testing.TB, l *lab.Lab, pods ...string) {
	t.Helper()
	for _, ref := range pods {
		node := l.Pod(ref).Node
		l.Eventually(patience, func() error {
			s, err := tryStatus(l, node)
			if err == nil && s.podState(ref) != "enrolled" {
				err = fmt.Errorf("pod %s is %q at %s", ref, s.podState(ref), node)
			}
			return err
		})
	}
}

// waitLeft waits until the agent of a node has the pod no more.
func waitLeft(t testing.TB, l *lab.Lab, node, ref string) {
	t.Helper()
	l.Eventually(patience, func() error {
		s, err := tryStatus(l, node)
		if err == nil && s.podState(ref) != "" {
			err = fmt.Errorf("pod %s is still %q at %s", ref, s.podState(ref), node)
		}
		return err
	})
}

// sample is a line of a Prometheus exposition.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// metrics scrapes an agent.
func metrics(t testing.TB, l *lab.Lab, node string) []sample {
	t.Helper()
	return scrape(t, l, node, "http://127.0.0.1:4191/metrics")
}

// scrape reads metrics at url from a node's own namespace.
func scrape(t testing.TB, l *lab.Lab, node, url string) []sample {
	t.Helper()
	var out []sample
	for line := range strings.Lines(l.NodeExec(node, "labtest", "get", url)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		s, err := parseSample(line)
		if err != nil {
			t.Fatalf("metrics of %s: %q: %v", node, line, err)
		}
		out = append(out, s)
	}
	return out
}

func parseSample(line string) (sample, error) {
	s := sample{labels: map[string]string{}}
	end := strings.IndexAny(line, "{ ")
	if end < 0 {
		return s, fmt.Errorf("no value")
	}
	s.name, line = line[:end], line[end:]
	if rest, ok := strings.CutPrefix(line, "{"); ok {
		for !strings.HasPrefix(rest, "}") {
			key, after, ok := strings.Cut(rest, "=")
			if !ok {
				return s, fmt.Errorf("a label without a value")
			}
			quoted, err := strconv.QuotedPrefix(after)
			if err != nil {
				return s, err
			}
			if s.labels[key], err = strconv.Unquote(quoted); err != nil {
				return s, err
			}
			rest = strings.TrimPrefix(after[len(quoted):], ",")
		}
		line = rest[1:]
	}
	value, err := strconv.ParseFloat(strings.Fields(line)[0], 64)
	s.value = value
	return s, err
}

// metric is the sum of the samples of name that have all labels, given as
// key=value.
func metric(samples []sample, name string, labels ...string) float64 {
	var sum float64
	for _, s := range samples {
		if s.name == name && !slices.ContainsFunc(labels, func(kv string) bool {
			k, v, _ := strings.Cut(kv, "=")
			return s.labels[k] != v
		}) {
			sum += s.value
		}
	}
	return sum
}

// background is a program in a pod that runs beside the test.
type background struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin interface{ Close() error }
	out   *bufio.Scanner
	err   strings.Builder
	ended bool
}

// inPod starts a program of a pod that runs until its standard input ends;
// it gets until the end of the test.
func inPod(t testing.TB, l *lab.Lab, pod string, argv ...string) *background {
	t.Helper()
	b := &background{t: t, cmd: l.PodCommand(pod, argv...)}
	in, err := b.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	b.stdin, b.out, b.cmd.Stderr = in, bufio.NewScanner(out), &b.err
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !b.ended {
			_ = in.Close()
			for b.out.Scan() {
			}
			_ = b.cmd.Wait()
		}
	})
	return b
}

// line waits for the program's next line.
func (b *background) line() string {
	b.t.Helper()
	if !b.out.Scan() {
		err := b.cmd.Wait()
		b.ended = true
		b.t.Fatalf("%v ended: %v: %s", b.cmd.Args, err, b.err.String())
	}
	return b.out.Text()
}

// end ends the program's input and gives the rest of what it printed; it has
// to succeed.
func (b *background) end() []string {
	b.t.Helper()
	_ = b.stdin.Close()
	var lines []string
	for b.out.Scan() {
		lines = append(lines, b.out.Text())
	}
	b.ended = true
	if err := b.cmd.Wait(); err != nil {
		b.t.Errorf("%v: %v: %s", b.cmd.Args, err, b.err.String())
	}
	return lines
}

// attempt is a line of `labtest knock`.
type attempt struct {
	At                  time.Time
	Took                time.Duration
	Stage, Error, Errno string
}

// readKnocks ends a `labtest knock` and gives its attempts.
func readKnocks(t testing.TB, b *background) []attempt {
	t.Helper()
	var all []attempt
	for _, line := range b.end() {
		var a attempt
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("knock printed %q: %v", line, err)
		}
		all = append(all, a)
	}
	return all
}
