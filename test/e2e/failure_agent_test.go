package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/lab"
)

// heartbeat is after how long a silent agent counts as hung: the agent's
// --heartbeat-timeout.
const heartbeat = 4 * time.Second

var failClosed = map[string]string{"underlane.io/fail-mode": "closed"}

// outage is what a client that makes connection after connection is to see
// while the agent of a node is away.
type outage struct {
	signal  string // KILL, STOP
	node    string // of the agent
	client  string
	server  string // pod
	refusal string // errno while the agent is away; "" where the pod fails open
}

func TestAgentAway(t *testing.T) {
	closedClient, closedServer, outsider := clientPod("closed-client", node1), serverPod("closed-server", node2), clientPod("outsider", node1)
	closedClient.Annotations, closedServer.Annotations = failClosed, failClosed
	outsider.Labels = nil
	l := lab.Up(t, lab.Options{AgentArgs: []string{"--heartbeat-timeout=" + heartbeat.String()}},
		manifests(clientPod("client", node1), closedClient, outsider, serverPod("server", node2), closedServer))
	waitEnrolled(t, l, "default/client", "default/closed-client", "default/server", "default/closed-server")
	for _, signal := range []string{"KILL", "STOP"} {
		for name, o := range map[string]outage{
			"client fails open":   {signal, node1, "client", "server", ""},
			"client fails closed": {signal, node1, "closed-client", "server", "EPERM"},
			"server fails open":   {signal, node2, "outsider", "server", ""},
			"server fails closed": {signal, node2, "outsider", "closed-server", "ECONNREFUSED"},
		} {
			t.Run(strings.ToLower(signal)+"/"+name, func(t *testing.T) { o.run(t, l) })
		}
	}
}

func (o outage) run(t *testing.T, l *lab.Lab) {
	before := agentStatus(t, l, o.node).KernelEvents
	tap, serverTap := startTap(t, l, o.node), startTap(t, l, node2)
	knocks := inPod(t, l, o.client, "labtest", "knock", "--timeout", "20s", l.Pod(o.server).IP().String()+":7000")
	knocks.line()
	time.Sleep(300 * time.Millisecond) // some, as things should be

	var away, struck, noticed, back, whole time.Time
	away = time.Now()
	l.SignalAgent(o.node, o.signal)
	struck = time.Now()
	noticed = struck
	if o.signal == "STOP" {
		noticed = noticed.Add(heartbeat)
	}
	time.Sleep(time.Until(noticed.Add(2 * time.Second)))
	beat := heartbeatOf(t, l, o.node).Last
	back = time.Now()
	if o.signal == "STOP" {
		l.SignalAgent(o.node, "CONT")
	} else {
		l.StartAgent(o.node)
	}
	waitEnrolled(t, l, "default/client", "default/closed-client", "default/server", "default/closed-server")
	l.Eventually(patience, func() error {
		if s, err := tryStatus(l, o.node); err != nil || !s.Ready {
			return fmt.Errorf("the agent is not ready: %v %v", s.NotReady, err)
		}
		if heartbeatOf(t, l, o.node).Last == beat { // it may answer before the kernel hears of it
			return errors.New("the agent gives no sign of life")
		}
		return nil
	})
	whole = time.Now()
	time.Sleep(500 * time.Millisecond)
	all := readKnocks(t, knocks)
	after := agentStatus(t, l, o.node).KernelEvents

	got := map[string]int{}
	for _, a := range all {
		var when string
		switch {
		case a.At.Add(a.Took).Before(away):
			when = "before"
		case a.At.Before(struck):
			when = "in flight"
		case a.At.Before(noticed):
			when = "unnoticed"
		case a.At.Add(a.Took).Before(back):
			when = "away"
		case a.At.Before(whole):
			when = "coming back"
		default:
			when = "after"
		}
		got[when+" "+a.outcome()]++
		if a.At.After(noticed) && a.At.Before(back) && a.Took > heartbeat {
			t.Errorf("an attempt while the agent was away took %s: %+v", a.Took, a)
		}
		allowed := a.outcome() == "done"
		switch when {
		case "in flight":
			// It may die with a killed agent; and the other side gives up a
			// handshake that an agent was stopped in the middle of.
			allowed = true
		case "unnoticed":
			// It waits for the stopped agent. The last heartbeat was before the
			// signal.
			allowed = allowed || a.outcome() == o.refusal && o.refusal != ""
		case "away":
			allowed = a.outcome() == or(o.refusal, "done")
		case "coming back":
			allowed = a.outcome() == "done" || a.outcome() == o.refusal && o.refusal != ""
		}
		if !allowed {
			t.Errorf("%s: %+v", when, a)
		}
	}
	t.Logf("%v", got)
	if n := got["away "+or(o.refusal, "done")]; n < 20 {
		t.Errorf("%d attempts while the agent was away: too few to tell anything", n)
	}
	if got["before done"] == 0 || got["after done"] == 0 {
		t.Errorf("no attempts before or after: %v", got)
	}
	o.judgeCounters(t, before, after, all)
	if o.client == "closed-client" {
		ended := serverTap.all(func(e event) bool {
			// An agent that is killed may leave a connection that it has said nothing on.
			c := e.ConnCloseEvent
			return c != nil && c.SentBytes+c.ReceivedBytes > 0 && e.Source.Metadata["pod"] == o.client
		})
		for _, e := range ended {
			if e.TLS != "true" {
				t.Errorf("bytes of a pod that fails closed came without TLS: %s", e)
			}
		}
		if len(ended) == 0 {
			t.Error("the server's tap shows no connection")
		}
	}
	if o.signal == "STOP" && o.client != "outsider" {
		o.judgeTap(t, tap)
	}
	if n := metric(metrics(t, l, o.node), "underlane_kernel_events_total", "reason="+o.counter()); n != float64(after[o.counter()]) {
		t.Errorf("metrics say %s is %v, status says %d", o.counter(), n, after[o.counter()])
	}
}

// heartbeatState is what the kernel has of an agent.
type heartbeatState struct {
	Last    int64 `json:"heartbeat_ns"`
	Timeout int64 `json:"heartbeat_timeout_ns"`
	Pid     int
}

func heartbeatOf(t *testing.T, l *lab.Lab, node string) heartbeatState {
	t.Helper()
	var entries []struct {
		Formatted struct{ Value heartbeatState }
	}
	bpftool(t, &entries, "map", "dump", "pinned", filepath.Join(nodeOf(t, l, node).Pins, "agent"))
	if len(entries) != 1 {
		t.Fatalf("%d entries in the agent map, want 1", len(entries))
	}
	return entries[0].Formatted.Value
}

// outcome is the errno, or how far the attempt got.
func (a attempt) outcome() string { return or(a.Errno, a.Stage) }

// counter is the kernel's for connections while the agent is away.
func (o outage) counter() string {
	verb, why := "passed", "no-listener"
	if o.refusal != "" {
		verb = "refused"
	}
	if o.signal == "STOP" {
		why = "stale-agent"
	}
	return verb + "-" + why
}

// stray bounds what the kernel counts besides the attempts: it asks the
// inbound hook about a late packet of a closed connection, too.
const stray = 5

// judgeCounters: the kernel has counted each attempt once, as what it was.
func (o outage) judgeCounters(t *testing.T, before, after map[string]uint64, all []attempt) {
	t.Helper()
	grown := map[string]int{}
	total := 0
	for name, n := range after {
		for _, p := range []string{"captured-", "passed-", "refused-"} {
			if o.client != "outsider" && name == "captured-inbound" {
				continue // the other side's
			}
			if d := int(n - before[name]); d > 0 && strings.HasPrefix(name, p) {
				grown[name] = d
				total += d
			}
		}
	}
	most := len(all) + stray
	if o.signal == "STOP" && o.client == "outsider" {
		most += len(all) / 10 // hundreds of connections have waited for the server's agent, and end together
	}
	if total < len(all) || total > most {
		t.Errorf("the kernel has counted %d connections of %d: %v", total, len(all), grown)
	}
	refused := 0
	for _, a := range all {
		if o.refusal != "" && a.Errno == o.refusal {
			refused++
		}
	}
	if got := grown["refused-no-listener"] + grown["refused-stale-agent"]; o.signal == "STOP" && (got < refused || got > refused+stray) {
		t.Errorf("the kernel has refused %d connections, the client saw %d refused: %v", got, refused, grown)
	}
	if passed := grown["passed-no-listener"] + grown["passed-stale-agent"]; o.refusal != "" && passed > stray {
		t.Errorf("%d connections of a pod that fails closed were passed: %v", passed, grown)
	}
	if grown[o.counter()] < 20 {
		t.Errorf("counter %s has grown by %d only: %v", o.counter(), grown[o.counter()], grown)
	}
}

// judgeTap: an agent that was stopped tells afterwards what the kernel did
// meanwhile.
func (o outage) judgeTap(t *testing.T, tap *tapReader) {
	t.Helper()
	e := tap.wait("a connection that was made while the agent was away", func(e event) bool {
		return e.Origin == "kernel" && e.ConnCloseEvent != nil && e.Source.Metadata["pod"] == o.client
	})
	type row struct{ Event, Reason, Process, TLS, Direction string }
	want := row{"close", "", "labtest", "not-proxied", "OUTBOUND"}
	if o.refusal != "" {
		want.Event, want.Reason = "denied", "fail-closed"
	}
	got := row{e.ConnCloseEvent.Event, e.Reason, e.ConnCloseEvent.Process, e.TLS, e.ProxyDirection}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tap (-want +got):\n%s%s", diff, e)
	}
}

// An agent that crashed and is back is asked again at once where plaintext is no
// way out: of two tries the better one, since the machine may be busy.
func TestAgentIsBack(t *testing.T) {
	server := serverPod("server", node2)
	server.Annotations = map[string]string{"underlane.io/policy": "strict"}
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), server))
	waitEnrolled(t, l, "default/client", "default/server")
	best := time.Hour
	for range 2 {
		knocks := inPod(t, l, "client", "labtest", "knock", l.Pod("server").IP().String()+":7000")
		knocks.line()
		l.KillAgent(node2)
		time.Sleep(100 * time.Millisecond) // some are refused
		l.StartAgent(node2)
		waitEnrolled(t, l, "default/server")
		there := time.Now()
		time.Sleep(6 * time.Second) // longer than an absence is remembered
		refused, last := 0, there
		for _, a := range readKnocks(t, knocks) {
			if a.outcome() != "done" {
				refused++
				if a.At.After(last) {
					last = a.At
				}
			}
		}
		if refused == 0 {
			t.Fatal("no connection was refused while the agent was away")
		}
		if best = min(best, last.Sub(there)); best <= time.Second {
			break
		}
	}
	if best > time.Second {
		t.Errorf("connections were refused for %s after the agent was back", best)
	}
}

// An agent that is stopped accepts what is on its way to it: under load, too, no
// connection is reset.
func TestAgentStopsUnderLoad(t *testing.T) {
	l := lab.Up(t, lab.Options{Nodes: 1}, manifests(clientPod("client", node1), serverPod("server", node1)))
	waitEnrolled(t, l, "default/client", "default/server")
	var clients []*background
	for range 2 {
		c := inPod(t, l, "client", "labtest", "knock", "--interval", "1ms", l.Pod("server").IP().String()+":7000")
		c.line()
		clients = append(clients, c)
	}
	time.Sleep(300 * time.Millisecond)
	l.SignalAgent(node1, "TERM")
	for _, c := range clients {
		for _, a := range readKnocks(t, c) {
			if a.outcome() != "done" {
				t.Errorf("%+v", a)
			}
		}
	}
}
