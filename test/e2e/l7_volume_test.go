package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// agentPid is the process of a node's agent.
func agentPid(t testing.TB, l *lab.Lab, node string) int { return nodeOf(t, l, node).Agent.Pid }

// memory is a value of /proc/PID/status in bytes.
func memory(t testing.TB, pid int, key string) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			kB, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kB << 10
		}
	}
	t.Fatalf("no %s of process %d", key, pid)
	return 0
}

// boundedMemory fails the test if an agent's memory grows by more than limit at
// any time until the returned func is called.
func boundedMemory(t *testing.T, l *lab.Lab, limit int64) (check func()) {
	t.Helper()
	before := map[string]int64{}
	for _, node := range []string{node1, node2} {
		pid := agentPid(t, l, node)
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil { // resets VmHWM
			t.Fatal(err)
		}
		before[node] = memory(t, pid, "VmRSS")
	}
	return func() {
		t.Helper()
		for node, was := range before {
			peak := memory(t, agentPid(t, l, node), "VmHWM")
			t.Logf("agent of %s: %d MiB before, %d MiB at most", node, was>>20, peak>>20)
			if peak-was > limit {
				t.Errorf("the agent of %s grew from %d to %d MiB", node, was>>20, peak>>20)
			}
		}
	}
}

// mayGrow is what an agent's memory may grow by while a volume passes.
const mayGrow = 150 << 20

// TestVolume moves more than that each way over each protocol, between nodes.
func TestVolume(t *testing.T) { moveVolume(t, 256<<20) }

// TestFullGigabyte moves 1 GiB.
func TestFullGigabyte(t *testing.T) { moveVolume(t, 1<<30) }

func moveVolume(t *testing.T, size int64) {
	l := upL7(t)
	far := l.Pod("far").IP()
	hash := patternHash(size)
	want := fmt.Sprintf("%d %s", size, hash)
	check := boundedMemory(t, l.Lab, mayGrow)
	url := "http://" + addrPort(far, 8080)
	n := strconv.FormatInt(size, 10)
	for name, argv := range map[string][]string{
		"HTTP/1 down": {"get", "--hash", "--timeout", "5m", url + "/bytes/" + n},
		"HTTP/1 up":   {"get", "-X", "POST", "--body", n, "--timeout", "5m", url + "/up"},
		"HTTP/2 down": {"get", "--http2", "--hash", "--timeout", "5m", url + "/bytes/" + n},
		"HTTP/2 up":   {"get", "--http2", "-X", "POST", "--body", n, "--timeout", "5m", url + "/up"},
		"opaque up":   {"send", "--bytes", n, addrPort(far, 7002)},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			out := l.Exec("client", append([]string{"labtest"}, argv...)...)
			t.Logf("%s", time.Since(began).Round(time.Millisecond))
			if !strings.Contains(out, hash) || !strings.Contains(out, n) {
				t.Errorf("got %q, want %s", out, want)
			}
		})
	}
	// By hand what labtest does not do: chunks, and opaque bytes down.
	at := listenIn(t, l.Lab, "far", 9000)
	t.Run("HTTP/1 chunked both ways", func(t *testing.T) {
		client := l.client(t, false)
		client.Timeout = 5 * time.Minute
		if a := post(t, client, url+"/up", size, true); a.BodyBytes != size || a.BodySHA256 != hash {
			t.Errorf("up: %+v", a)
		}
	})
	t.Run("opaque down", func(t *testing.T) {
		c, err := l.from.DialContext(t.Context(), "tcp", addrPort(far, 9000))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("\x00go")); err != nil {
			t.Fatal(err)
		}
		srv := at.request(t)
		_ = srv.SetDeadline(time.Now().Add(5 * time.Minute))
		go func() {
			_, _ = io.Copy(srv.UnixConn, io.LimitReader(&pattern{}, size))
			_ = srv.CloseWrite()
		}()
		if got, sum, err := hashOf(c); got != size || sum != hash || err != nil {
			t.Errorf("%d %s, %v", got, sum, err)
		}
	})
	check()
}

// TestThousandConnections: each open at the same time, each with a request, then
// with another.
func TestThousandConnections(t *testing.T) {
	t.Parallel()
	const connections = 1000
	l := upL7(t)
	check := boundedMemory(t, l.Lab, 400<<20)
	taken := openOf(t, l.Lab)
	conns := make([]net.Conn, connections)
	var wg sync.WaitGroup
	errs := make(chan error, connections)
	limit := make(chan struct{}, 100)
	far, near := addrPort(l.Pod("far").IP(), 8080), addrPort(l.Pod("near").IP(), 8080)
	ask := func(i int, c *podConn, addr string) error {
		_ = c.SetDeadline(time.Now().Add(2 * patience))
		path := fmt.Sprintf("/n%d", i)
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, addr); err != nil {
			return err
		}
		resp, err := readResponse(c)
		if err == nil && !strings.Contains(resp, `"path":"`+path+`"`) {
			err = fmt.Errorf("connection %d got %q", i, resp)
		}
		return err
	}
	for round := range 2 {
		for i := range connections {
			wg.Go(func() {
				limit <- struct{}{}
				defer func() { <-limit }()
				addr := far
				if i%4 == 0 {
					addr = near
				}
				var err error
				if round == 0 {
					conns[i], err = l.from.DialContext(t.Context(), "tcp", addr)
				}
				if err == nil {
					err = ask(i, conns[i].(*podConn), addr)
				}
				errs <- err
			})
		}
		wg.Wait()
		failed := 0
		for range connections {
			if err := <-errs; err != nil {
				if failed++; failed <= 5 {
					t.Errorf("round %d: %v", round, err)
				}
			}
		}
		if failed > 0 {
			t.Fatalf("round %d: %d of %d failed", round, failed, connections)
		}
	}
	if s := agentStatus(t, l.Lab, node1); s.OpenConnections < connections || s.PlaintextFallbacks > 0 {
		t.Errorf("%d connections open, %d in plaintext", s.OpenConnections, s.PlaintextFallbacks)
	}
	for _, c := range conns {
		c.Close()
	}
	check()
	// What is left are idle connections in the pools, which age.
	l.Eventually(4*patience, func() error {
		now := openOf(t, l.Lab)
		for node, was := range taken {
			if now[node].carried > was.carried || now[node].sockets > was.sockets+4 {
				return fmt.Errorf("%s: %+v, before %+v", node, now[node], was)
			}
		}
		return nil
	})
}

type open struct {
	carried uint64 // connections, as the agent counts them
	sockets int    // descriptors of the agent's process that are sockets
}

func openOf(t testing.TB, l *lab.Lab) map[string]open {
	t.Helper()
	out := map[string]open{}
	for _, node := range []string{node1, node2} {
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", agentPid(t, l, node)))
		if err != nil {
			t.Fatal(err)
		}
		o := open{carried: agentStatus(t, l, node).OpenConnections}
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
				o.sockets++
			}
		}
		out[node] = o
	}
	return out
}

func readResponse(c *podConn) (string, error) {
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	return string(body), errors.Join(err, resp.Body.Close())
}
