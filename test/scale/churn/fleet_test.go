package churn

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/test/scale"
	"github.com/underlane/underlane/test/scale/agents"
)

// asAgents is the first argument of this program where it is to be the agents: a process of
// their own, so that the processor time of the other one is that of a controller.
const asAgents = "agents"

// TestMain is the agents, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asAgents {
		if err := runAgents(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// watching is how many agents use the Service whose endpoint changes.
const watching = 50

// runAgents starts the agents of all nodes and answers questions on standard input until it
// ends: "whole" when all have what they use, "received" with the bytes that have come, and
// "seen" with which port of the probe came when, in nanoseconds of Unix time.
func runAgents(args []string) error {
	f := flag.NewFlagSet(asAgents, flag.ExitOnError)
	nodes := f.Int("nodes", 0, "")
	controller := f.String("controller", "", "")
	dir := f.String("ca", "", "")
	_ = f.Parse(args)
	debug.SetGCPercent(400)
	authority, err := ca.Open(*dir, trustDomain)
	if err != nil {
		return err
	}
	names := make([]string, *nodes)
	for i := range names {
		names[i] = fmt.Sprint("node-", i)
	}
	pods, pem := *nodes*scale.PodsPerNode, authority.AnchorsPEM()
	fleet := agents.Start(agents.Options{
		Controllers: func() []string { return []string{*controller} },
		Token:       func(node string) (string, error) { return authority.BootstrapToken(node), nil },
		Anchors:     func() ([]byte, error) { return pem, nil },
	}, names, func(i int) (out []netip.Addr) {
		for j := range 20 {
			out = append(out, scale.ServiceAddr((i*20+j)*scale.PodsPerService%pods))
		}
		if i < watching {
			out = append(out, netip.MustParseAddr(probeAddr))
		}
		return out
	})
	var mu sync.Mutex
	var seen []string
	for _, a := range fleet.All[:min(watching, *nodes)] {
		go follow(a, func(port uint16, at time.Time) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, fmt.Sprint(port, ":", at.UnixNano()))
		})
	}
	questions := bufio.NewScanner(os.Stdin)
	for questions.Scan() {
		switch questions.Text() {
		case "whole":
			fmt.Println(fleet.Await(5*time.Minute, (*agents.Agent).Whole))
		case "received":
			fmt.Println(fleet.Received.Load())
		case "seen":
			mu.Lock()
			fmt.Println(strings.Join(seen, " "))
			mu.Unlock()
		}
	}
	return nil // the process ends, and the connections with it
}

// follow tells each port of the probe's endpoint that an agent gets.
func follow(a *agents.Agent, tell func(uint16, time.Time)) {
	at := netip.AddrPortFrom(netip.MustParseAddr(probeAddr), 80)
	changes, stop := a.Store.Watch()
	defer stop()
	last := uint16(0)
	for range changes {
		if _, port, ok := a.Store.View().Service(at); ok && port != nil && len(port.Endpoints) > 0 {
			if now := port.Endpoints[0].Addr.Port(); now != last {
				last = now
				tell(now, time.Now())
			}
		}
	}
}

// fleet is the process of the agents.
type fleet struct {
	t       testing.TB
	in      io.Writer
	answers *bufio.Reader
}

func startFleet(t testing.TB, nodes int, controller, dir string) *fleet {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, asAgents, fmt.Sprint("--nodes=", nodes), "--controller="+controller, "--ca="+filepath.Clean(dir))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &fleet{t, in, bufio.NewReaderSize(out, 1<<20)}
}

// ask returns the answer to a question, of runAgents.
func (f *fleet) ask(what string) string {
	f.t.Helper()
	_, err := fmt.Fprintln(f.in, what)
	answer := ""
	if err == nil {
		answer, err = f.answers.ReadString('\n')
	}
	if err != nil {
		f.t.Fatalf("the agents do not say %q: %v", what, err)
	}
	return strings.TrimSpace(answer)
}
