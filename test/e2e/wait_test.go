package e2e

import (
	"bufio"
	"os/exec"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

// waited starts `agent wait` in the client's pod, which gives its result in time.
func waited(l *l7Lab, args ...string) (result func() lab.Result) {
	done := make(chan lab.Result, 1)
	go func() { done <- l.TryExec("client", append([]string{l.Bin() + "/agent", "wait"}, args...)...) }()
	return func() lab.Result { return <-done }
}

// TestWait: `agent wait` tells a server that answers from one that does not, where
// the agent accepts for both, as it does without a mesh.
func TestWait(t *testing.T) {
	t.Parallel()
	bareAndMeshed(t, func(t *testing.T, l *l7Lab) {
		const nobody = 9
		for _, w := range l.ways {
			t.Run(w.name, func(t *testing.T) {
				there := map[string]func() lab.Result{}
				for server, target := range map[string]string{
					"HTTP by TCP": w.addr(8080), "HTTP": "http://" + w.addr(8080) + "/", "echo": w.addr(7000),
					"a server that speaks first": w.addr(7001), "a server that counts": w.addr(7002),
				} {
					there[server] = waited(l, "--timeout", patience.String(), "--settle", patience.String(), target)
				}
				absent := map[string]func() lab.Result{
					"TCP": waited(l, "--timeout", "2s", w.addr(nobody)), "HTTP": waited(l, "--timeout", "2s", "http://"+w.addr(nobody)+"/"),
				}
				for server, result := range there {
					if r := result(); r.Code != 0 || !strings.Contains(r.Stderr, " answers, after ") {
						t.Errorf("%s is there: %s", server, r)
					}
				}
				for protocol, result := range absent {
					if r := result(); r.Code != 1 || !strings.Contains(r.Stderr, " does not answer after 2s: ") {
						t.Errorf("no server of %s: %s", protocol, r)
					}
				}
				late(t, l, w)
			})
		}
	})
}

// late is a server that comes after the first attempt, says nothing and lets the
// connection stand.
func late(t *testing.T, l *l7Lab, w way) {
	const port = 9555
	cmd := l.PodCommand("client", l.Bin()+"/agent", "wait", "--timeout", patience.String(), "--settle", "1s", w.addr(port))
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func(cmd *exec.Cmd) {
		if err := cmd.Wait(); err != nil {
			t.Errorf("wait for a late server: %v", err)
		}
	}(cmd)
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "waiting for "+w.addr(port)+": ") {
		t.Errorf("before the server is there: got %q, want that it is waited for", lines.Text())
	}
	ln := listenIn(t, l.Lab, w.server, port)
	go func() {
		for {
			if _, err := ln.Accept(); err != nil {
				return
			}
		}
	}()
	var rest []string
	for lines.Scan() {
		rest = append(rest, lines.Text())
	}
	if n := len(rest); n == 0 || !strings.Contains(rest[n-1], w.addr(port)+" answers, after ") {
		t.Errorf("once the server is there: got %q, want that it answers", rest)
	}
}
