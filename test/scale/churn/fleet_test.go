package churn

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/test/scale"
	"github.com/underlane/underlane/test/scale/agents"
	"github.com/underlane/underlane/test/scale/agents/light"
)

// watching is how many agents use the Service whose endpoints change for the measurement of
// delays. They are whole ones, and the others light ones.
const watching = 20

// runAgents starts the agents of all nodes and answers questions on standard input until it
// ends: "whole" with how many lack what they use, "counted" with the bytes, deltas and answers
// of the light ones and the processor time of this process, "lost" with how many of them have
// lost their stream, and "seen" with when a watching agent first had the endpoint of the probe
// with a port, or had it no more: +PORT or -PORT, and nanoseconds of Unix time.
func runAgents(args []string) error {
	f := flag.NewFlagSet(asAgents, flag.ExitOnError)
	nodes := f.Int("nodes", 0, "")
	controller := f.String("controller", "", "")
	dir := f.String("ca", "", "")
	processor := f.Int("processor", -1, "")
	_ = f.Parse(args)
	if err := pin(*processor); err != nil {
		return err
	}
	debug.SetGCPercent(400)
	authority, err := ca.Open(*dir, trustDomain)
	if err != nil {
		return err
	}
	names := make([]string, *nodes)
	for i := range names {
		names[i] = fmt.Sprint("node-", i)
	}
	pem, whole := authority.AnchorsPEM(), min(watching, *nodes)
	uses := func(i int) (out []netip.Addr) {
		for j := range 20 {
			out = append(out, scale.ServiceAddr((i*20+j)*scale.PodsPerService%(*nodes*scale.PodsPerNode)))
		}
		return out
	}
	fleet := agents.Start(agents.Options{
		Controllers: func() []string { return []string{*controller} },
		Token:       func(node string) (string, error) { return authority.BootstrapToken(node), nil },
		Anchors:     func() ([]byte, error) { return pem, nil },
	}, names[:whole], func(i int) []netip.Addr { return append(uses(i), netip.MustParseAddr(probeAddr)) })
	others, err := light.Start(context.Background(), *controller, authority, names[whole:], whole, func(i int) []netip.Addr { return uses(whole + i) })
	if err != nil {
		return err
	}
	var seen sightings
	for _, a := range fleet.All {
		go seen.follow(a)
	}
	questions := bufio.NewScanner(os.Stdin)
	for questions.Scan() {
		switch questions.Text() {
		case "whole":
			lacking := fleet.Await(5*time.Minute, (*agents.Agent).Whole)
			for deadline := time.Now().Add(4 * time.Minute); others.Synced() < *nodes-whole && others.Lost.Load() == 0 && time.Now().Before(deadline); {
				time.Sleep(20 * time.Millisecond)
			}
			fmt.Println(lacking + *nodes - whole - others.Synced())
		case "counted":
			fmt.Println(others.Bytes.Load(), others.Deltas.Load(), others.Answers.Load(), seconds())
		case "lost":
			fmt.Println(others.Lost.Load(), others.Err())
		case "seen":
			fmt.Println(seen.take())
		}
	}
	return nil // the process ends, and the connections with it
}

// sightings are what the watching agents have seen.
type sightings struct {
	mu  sync.Mutex
	all []string
}

func (s *sightings) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := strings.Join(s.all, " ")
	s.all = nil
	return out
}

// follow notes each endpoint of the probe that an agent gets or loses.
func (s *sightings) follow(a *agents.Agent) {
	at := netip.AddrPortFrom(netip.MustParseAddr(probeAddr), 80)
	changes, stop := a.Store.Watch()
	defer stop()
	has := map[uint16]bool{}
	for range changes {
		_, port, ok := a.Store.View().Service(at)
		if !ok || port == nil {
			continue
		}
		is := map[uint16]bool{}
		for i := range port.Endpoints {
			is[port.Endpoints[i].Addr.Port()] = true
		}
		now := time.Now().UnixNano()
		s.mu.Lock()
		for p := range is {
			if !has[p] {
				s.all = append(s.all, fmt.Sprintf("+%d:%d", p, now))
			}
		}
		for p := range has {
			if !is[p] {
				s.all = append(s.all, fmt.Sprintf("-%d:%d", p, now))
			}
		}
		s.mu.Unlock()
		has = is
	}
}

// fleet is the process of the agents.
type fleet struct{ *child }

func startFleet(t testing.TB, nodes int, controller, dir string, processor int) *fleet {
	return &fleet{startChild(t, asAgents, []string{"GOMEMLIMIT=off"}, fmt.Sprint("--nodes=", nodes), "--controller="+controller, "--ca="+dir, fmt.Sprint("--processor=", processor))}
}

func (f *fleet) ask(what string) string {
	f.t.Helper()
	if _, err := fmt.Fprintln(f.in, what); err != nil {
		f.t.Fatal("the agents:", err)
	}
	return f.answer(what)
}

// counted are the answers to that question.
type counted struct{ bytes, deltas, answers, cpu float64 }

func (f *fleet) counted() (c counted) {
	if _, err := fmt.Sscan(f.ask("counted"), &c.bytes, &c.deltas, &c.answers, &c.cpu); err != nil {
		f.t.Fatal(err)
	}
	return c
}
