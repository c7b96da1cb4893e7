package fanin

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/test/fakeagent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func agentsOf(authority *ca.Authority) *Agents {
	return &Agents{
		Certificate: func() (*tls.Certificate, error) {
			cert, err := authority.ControllerCertificate(time.Hour)
			return &cert, err
		},
		Anchors:     authority.Anchors,
		TrustDomain: fakeagent.TrustDomain,
	}
}

// reader is a tap that runs, and what it has sent.
type reader struct {
	t       *testing.T
	started chan struct{}
	batches chan *agentv1.TapEvents
	nodes   func(...Node) // sets what Nodes returns
}

func startTap(t *testing.T, authority *ca.Authority, r *agentv1.TapRequest, nodes ...Node) *reader {
	t.Helper()
	var mu sync.Mutex
	now := nodes
	ctx, cancel := context.WithCancel(t.Context())
	out := &reader{t: t, started: make(chan struct{}), batches: make(chan *agentv1.TapEvents, 1000)}
	out.nodes = func(n ...Node) { mu.Lock(); defer mu.Unlock(); now = n }
	tapped := &Tap{
		Agents: agentsOf(authority), Request: func() *agentv1.TapRequest { return r },
		Nodes:   func() []Node { mu.Lock(); defer mu.Unlock(); return now },
		Started: func() error { close(out.started); return nil },
		Send:    func(b *agentv1.TapEvents) error { out.batches <- b; return nil },
	}
	done := make(chan error, 1)
	go func() { done <- tapped.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-out.started:
	case <-time.After(10 * time.Second):
		t.Fatal("not started within 10 s")
	}
	return out
}

// until takes batches until cond holds of one.
func (r *reader) until(what string, cond func(*agentv1.TapEvents) bool) {
	r.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case b := <-r.batches:
			if cond(b) {
				return
			}
		case <-deadline:
			r.t.Fatal("not within 20 s:", what)
		}
	}
}

func (r *reader) untilWarned(text string) {
	r.t.Helper()
	r.until("warning: "+text, func(b *agentv1.TapEvents) bool {
		return strings.Contains(strings.Join(b.GetWarnings(), "\n"), text)
	})
}

func node(a *fakeagent.Agent) Node { return Node{a.Name, a.Addr} }

func request(a *fakeagent.Agent, path string) tap.Event {
	return tap.Event{Kind: tap.RequestInit, Base: 1, Stream: 1, Method: "GET", Path: path, Source: tap.Peer{Workload: a.Workload("ns", "web-"+a.Name, "web")}}
}

func TestTapOfSeveralNodes(t *testing.T) {
	authority := fakeagent.Authority(t)
	a, b := fakeagent.Start(t, authority, "a", ""), fakeagent.Start(t, authority, "b", "")
	r := startTap(t, authority, &agentv1.TapRequest{Target: "deploy/web"}, node(a), node(b))
	// Started: nothing is missed from here on.
	a.Emit(request(a, "/a"))
	b.Emit(request(b, "/b"))
	paths := map[string]bool{}
	r.until("both events", func(batch *agentv1.TapEvents) bool {
		for _, e := range batch.GetEvents() {
			paths[e.GetPath()] = true
		}
		return paths["/a"] && paths["/b"]
	})
}

func TestNodesThatCannotBeHeard(t *testing.T) {
	authority := fakeagent.Authority(t)
	a, gone := fakeagent.Start(t, authority, "a", ""), fakeagent.Start(t, authority, "gone", "")
	gone.Stop()
	impostor := fakeagent.Start(t, authority, "impostor", "a") // another node's certificate
	foreign := fakeagent.Start(t, fakeagent.Authority(t), "foreign", "")
	began := time.Now()
	r := startTap(t, authority, &agentv1.TapRequest{}, node(a), node(gone), node(impostor), node(foreign))
	if took := time.Since(began); took > callTimeout {
		t.Errorf("the tap waited %s for nodes that cannot be heard", took)
	}
	for _, want := range []string{"gone is not heard", "impostor is not heard", "foreign is not heard"} {
		found := false
		deadline := time.After(20 * time.Second)
		var others []*agentv1.TapEvents
		for !found {
			select {
			case b := <-r.batches:
				if found = strings.Contains(strings.Join(b.GetWarnings(), "\n"), want); !found {
					others = append(others, b)
				}
			case <-deadline:
				t.Fatal("no warning:", want)
			}
		}
		for _, b := range others { // for the next
			r.batches <- b
		}
	}
	a.Emit(request(a, "/a"))
	r.until("the event of the one that can be heard", func(b *agentv1.TapEvents) bool { return len(b.GetEvents()) == 1 })
	gone.Restart()
	r.untilWarned("gone is heard again")
	gone.Emit(request(gone, "/b"))
	r.until("its event", func(b *agentv1.TapEvents) bool { return len(b.GetEvents()) == 1 && b.Events[0].GetPath() == "/b" })
	a.Stop()
	r.untilWarned("a is not heard")
}

func TestNodesJoinAndLeave(t *testing.T) {
	authority := fakeagent.Authority(t)
	a, b := fakeagent.Start(t, authority, "a", ""), fakeagent.Start(t, authority, "b", "")
	r := startTap(t, authority, &agentv1.TapRequest{}, node(a))
	r.nodes(node(b))
	b.AwaitTap()
	for deadline := time.Now().Add(10 * time.Second); a.Hub.Active(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a node that left is still tapped")
		}
	}
	b.Emit(request(b, "/b"))
	r.until("the new node's event", func(b *agentv1.TapEvents) bool { return len(b.GetEvents()) == 1 })
}

func TestLimitIsOfTheWhole(t *testing.T) {
	authority := fakeagent.Authority(t)
	a, b := fakeagent.Start(t, authority, "a", ""), fakeagent.Start(t, authority, "b", "")
	r := startTap(t, authority, &agentv1.TapRequest{MaxRps: 5}, node(a), node(b))
	began := time.Now()
	for i := range 50 {
		for _, agent := range []*fakeagent.Agent{a, b} {
			e := request(agent, "/")
			e.Stream = uint64(i)
			agent.Emit(e)
		}
	}
	n := 0
	r.until("five requests", func(batch *agentv1.TapEvents) bool {
		n += len(batch.GetEvents())
		return n >= 5
	})
	last := time.Now()
	for quiet := false; !quiet; {
		select {
		case batch := <-r.batches:
			last = time.Now()
			n += len(batch.GetEvents())
		case <-time.After(300 * time.Millisecond):
			quiet = true
		}
	}
	if most := 5 + int(5*last.Sub(began).Seconds()) + 1; n > most { // a second's worth at once, and what the time since adds
		t.Errorf("%d requests of 100 were let through, want 5, and at most %d", n, most)
	}
}

func TestLostIsPassedOn(t *testing.T) {
	m := newMerger(1)
	if got := m.pass(report{1, &agentv1.TapEvents{Lost: 7}}); got.GetLost() != 7 {
		t.Errorf("got %v, want 7 lost", got)
	}
	if got := m.pass(report{1, &agentv1.TapEvents{Warnings: []string{"x"}}}); len(got.GetWarnings()) != 1 {
		t.Errorf("got %v, want one warning", got)
	}
	if got := m.pass(report{1, &agentv1.TapEvents{}}); got != nil {
		t.Errorf("got %v, want nothing", got)
	}
}

func TestStatuses(t *testing.T) {
	authority := fakeagent.Authority(t)
	a, gone := fakeagent.Start(t, authority, "a", ""), fakeagent.Start(t, authority, "gone", "")
	gone.Stop()
	statuses, errs := agentsOf(authority).Statuses(t.Context(), []Node{node(a), node(gone)})
	if errs[0] != nil || statuses[0].GetNode() != "a" || !statuses[0].GetReady() {
		t.Errorf("a: %v, %v", statuses[0], errs[0])
	}
	if errs[1] == nil || !strings.Contains(errs[1].Error(), "the agent of gone") {
		t.Errorf("gone: %v", errs[1])
	}
}
