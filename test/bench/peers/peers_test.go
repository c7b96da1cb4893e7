package peers

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/underlane/underlane/test/bench/load"
	"github.com/underlane/underlane/test/bench/pki"
	"github.com/underlane/underlane/test/bench/serve"
	"github.com/underlane/underlane/test/bench/work"
)

// TestMain makes the test binary also the peer "go".
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "reverse-proxy" {
		if err := ReverseProxy(context.Background(), os.Args[2]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// free returns addresses of loopback with unused ports.
func free(t *testing.T, n int) []netip.AddrPort {
	t.Helper()
	var out []netip.AddrPort
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, l.Addr().(*net.TCPAddr).AddrPort())
	}
	return out
}

func start(t *testing.T, p *Peer, s Setup) {
	t.Helper()
	cmd, err := p.Command(s)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", p.Name, log.String())
		}
	})
	for _, h := range s.Hops {
		deadline := time.Now().Add(20 * time.Second)
		for {
			c, err := net.Dial("tcp", h.Listen.String())
			if err == nil {
				c.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not listen: %v, want a connection", p.Name, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// TestPeersCarryTheWork checks that two processes of each peer on this machine,
// with mutual TLS between them, do all the work without an error.
func TestPeersCarryTheWork(t *testing.T) {
	addrs := map[string]netip.AddrPort{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	served := 0
	for _, port := range work.Ports {
		l, err := serve.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		addrs[port.Name] = l.Addr()
		served++
		go func() { serve.Accept(ctx, l, port.Mode); done <- struct{}{} }()
	}
	t.Cleanup(func() {
		cancel()
		for range served {
			<-done
		}
	})
	for _, p := range All {
		t.Run(p.Name, func(t *testing.T) {
			dir := t.TempDir()
			if _, fetched := envoyPath(dir); p.Name == "envoy" && !fetched {
				t.Log("left out: `make bench` fetches it")
				return
			}
			tool, err := p.Find(t.Context(), dir)
			if err != nil {
				t.Logf("left out: %v", err)
				return
			}
			certs, err := pki.Make(dir)
			if err != nil {
				t.Fatal(err)
			}
			near := Setup{Dir: filepath.Join(dir, "near"), Tool: tool, PKI: certs, CPUs: 2}
			far := Setup{Dir: filepath.Join(dir, "far"), Tool: tool, PKI: certs, CPUs: 2}
			entry := map[string]netip.AddrPort{}
			for _, port := range work.Ports {
				if slices.Contains(p.Carries, port.Proto) {
					at := free(t, 2)
					entry[port.Name] = at[0]
					near.Hops = append(near.Hops, Hop{Port: port, Listen: at[0], Connect: at[1], TLSOut: !p.Plain})
					far.Hops = append(far.Hops, Hop{Port: port, Listen: at[1], Connect: addrs[port.Name], TLSIn: !p.Plain})
				}
			}
			start(t, &p, far)
			start(t, &p, near)
			for _, w := range work.Works {
				target, ok := entry[w.Port().Name]
				if !ok {
					continue
				}
				w.Conns, w.Streams = min(w.Conns, 4), min(w.Streams, 8)
				o := load.Options{Target: target, Work: w, Warm: 50 * time.Millisecond, For: 100 * time.Millisecond}
				r, err := load.Run(t.Context(), o)
				for range 10 { // on a busy machine the first handshakes may take longer
					if err != nil || r.Errors > 0 || r.Requests > 0 {
						break
					}
					o.For *= 2
					r, err = load.Run(t.Context(), o)
				}
				if err != nil || r.Errors > 0 || r.Requests == 0 {
					t.Errorf("%s: got %v, %d requests, %d errors (%+v); want requests without errors", w.Name, err, r.Requests, r.Errors, r.Error)
				}
			}
		})
	}
}

// TestConfigNamesEveryHop checks that every hop is in the configuration, with TLS
// on the right side.
func TestConfigNamesEveryHop(t *testing.T) {
	s := Setup{Dir: "/d", CPUs: 3, PKI: pki.Files{Anchors: "/p/anchors", Cert: "/p/cert", Key: "/p/key", Both: "/p/both"}}
	for i, port := range work.Ports {
		s.Hops = append(s.Hops, Hop{
			Port:   port,
			Listen: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(1000+i)), Connect: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), uint16(2000+i)),
			TLSOut: port.Name != "http",
		})
	}
	for _, p := range All {
		files, args := p.Config(s)
		all := strings.Join(args, " ")
		for _, text := range files {
			all += text
		}
		for _, h := range s.Hops {
			for _, addr := range []netip.AddrPort{h.Listen, h.Connect} {
				port := strings.TrimPrefix(addr.String(), addr.Addr().String()+":")
				if !strings.Contains(all, port) && slices.Contains(p.Carries, h.Port.Proto) {
					t.Errorf("%s: want %s in\n%s", p.Name, addr, all)
				}
			}
		}
		if !strings.Contains(all, "/p/anchors") {
			t.Errorf("%s: got a configuration without the trust anchors, want them in it", p.Name)
		}
	}
	text := nginxIn(s, Hop{}) + nginxOut(s, Hop{}, "proxy", "x")
	if text != "" {
		t.Errorf("got TLS in a plain configuration, want none: %s", text)
	}
}

func TestCommandMakesItsFiles(t *testing.T) {
	dir := t.TempDir()
	p := Peer{Name: "x", Config: func(Setup) (map[string]string, []string) { return map[string]string{"a": "text"}, []string{"-c", "a"} }}
	cmd, err := p.Command(Setup{Dir: filepath.Join(dir, "new"), Tool: "cat"})
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args = []string{"cat", "a"}
	if out, err := cmd.Output(); string(out) != "text" || err != nil {
		t.Errorf("got %q, %v; want \"text\"", out, err)
	}
	if _, err := exec.LookPath("no such program"); err == nil {
		t.Fatal("a program with that name exists, want none")
	}
	if _, err := installed("no such program")(t.Context(), dir); err == nil {
		t.Error("a program that does not exist: got no error, want one")
	}
}
