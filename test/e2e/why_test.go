package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/test/lab"
)

// why asks the agent of a node, and returns its answer and whether the command says by its
// exit status that the call works.
func why(t *testing.T, l *lab.Lab, node string, args ...string) (*tapv1alpha1.WhyReport, bool) {
	t.Helper()
	cmd := l.Command(append([]string{"agent", node, "--", "why", "-o", "json"}, args...)...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	report := &tapv1alpha1.WhyReport{}
	if jsonErr := json.Unmarshal(out, report); jsonErr != nil {
		t.Fatalf("agent why %v: %v, prints %q, %s", args, err, out, errs.String())
	}
	return report, err == nil
}

// expectWhy fails if the answer is another one, or if the step does not have the texts.
func expectWhy(t *testing.T, r *tapv1alpha1.WhyReport, exit, works bool, step string, want ...string) {
	t.Helper()
	text := ""
	for _, s := range r.Steps {
		if s.Name == step {
			text = s.Result + ": " + s.Text + "\n" + strings.Join(s.Evidence, "\n")
		}
	}
	if r.Works != works || exit != works {
		t.Errorf("%s → %s works %v, exit status %v; want %v: %s\n%+v", r.From, r.To, r.Works, exit, works, r.Conclusion, r.Steps)
	}
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s → %s: step %s is %q, want %q in it", r.From, r.To, step, text, w)
		}
	}
}

// TestWhy asks agents of a real mesh why calls work and why not, and has them try.
func TestWhy(t *testing.T) {
	t.Parallel()
	guard := serverPod("guard", node2)
	guard.Annotations = map[string]string{"underlane.io/policy": "strict"}
	outsider := clientPod("outsider", node1)
	outsider.Labels = nil
	l := upL7(t, webPod("web-1", node2), guard, outsider)
	l.Apply(webService)
	waitEnrolled(t, l.Lab, "default/web-1", "default/guard")
	service := addrPort(l.ServiceIPs("default/web")[0], 80)
	client := l.client(t, false)
	// The agent knows what its pods have used.
	for _, host := range []string{service, addrPort(l.Pod("near").IP(), 8080), addrPort(l.Pod("far").IP(), 8080), addrPort(l.Pod("guard").IP(), 8080)} {
		resp, err := client.Get("http://" + host + "/ok")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}

	r, exit := why(t, l.Lab, node1, "pod/client", "web:80", "--try")
	expectWhy(t, r, exit, true, "client", "ok: pod/client in namespace default is captured", "spiffe://")
	expectWhy(t, r, exit, true, "endpoints", "1 endpoint can be chosen", "by mutual TLS, on "+node2)
	expectWhy(t, r, exit, true, "recent", "request")
	expectWhy(t, r, exit, true, "try", "status 200", "tap: it went to pod default/web-1", "tls=true")
	r, exit = why(t, l.Lab, node1, "pod/client", "pod/near:8080", "--try")
	expectWhy(t, r, exit, true, "try", "status 200", "pod default/near", "tls=same-node")
	r, exit = why(t, l.Lab, node1, "pod/client", "pod/guard:8080", "--try")
	expectWhy(t, r, exit, true, "policy", "ok: ", "is strict, by its own annotations")
	expectWhy(t, r, exit, true, "try", "tls=true")
	r, exit = why(t, l.Lab, node1, "pod/client", "pod/far:7000", "--try", "--protocol", "tcp")
	expectWhy(t, r, exit, true, "try", "A connection of pod client", "pod default/far")

	r, exit = why(t, l.Lab, node1, "pod/client", "web:82")
	expectWhy(t, r, exit, false, "server", "problem: service/web in namespace default has no port 82")
	r, exit = why(t, l.Lab, node1, "pod/client", "pod/far:9999", "--try")
	expectWhy(t, r, exit, false, "try", "problem: ", "connect-refused")
	r, exit = why(t, l.Lab, node1, "pod/client", "pod/far:9999", "--try", "--protocol", "tcp")
	expectWhy(t, r, exit, false, "try", "problem: ", "connection reset", "tap: it failed with upstream-reset")
	r, exit = why(t, l.Lab, node1, "pod/client", "pod/near:9999", "--try", "--protocol", "tcp")
	expectWhy(t, r, exit, false, "try", "problem: ", "tap: it failed with connect-refused")
	r, exit = why(t, l.Lab, node1, "pod/client", "pod/far:8080", "--try", "--protocol", "tls")
	expectWhy(t, r, exit, false, "try", "problem: ")
	r, exit = why(t, l.Lab, node1, "pod/outsider", "pod/guard:8080")
	expectWhy(t, r, exit, false, "client", "warning: ", "is not in the mesh")
	expectWhy(t, r, exit, false, "policy", "problem: The client is refused with no-identity")
	r, exit = why(t, l.Lab, node1, "pod/outsider", "pod/near:8080", "--try")
	expectWhy(t, r, exit, true, "try", "No connection was made", "is not in the mesh")

	for _, args := range [][]string{{"pod/client", "web:80", "--try"}, {"pod/outsider", "pod/guard:8080"}} {
		text := l.TryAgent(node1, append([]string{"why"}, args...)...).Stdout
		if t.Log(text); !strings.HasPrefix(text, "1. ") || !strings.Contains(text, "\n\nThe call ") {
			t.Errorf("agent why %v prints %s, want numbered sentences and a conclusion", args, text)
		}
	}
	l.KillAgent(node2)
	r, exit = why(t, l.Lab, node1, "pod/client", "pod/guard:8080", "--try")
	expectWhy(t, r, exit, false, "try", "problem: ", "agent-down")
}

// TestTapHeaders: `agent tap -o json` has the header fields of requests of both protocols,
// and no secrets.
func TestTapHeaders(t *testing.T) {
	t.Parallel()
	l := upL7(t)
	cmd := l.Command("agent", node1, "--", "tap", "pod/far", "-o", "json", "--max-rps", "0")
	lines := tapLines(t, cmd)
	for _, http2 := range []bool{false, true} {
		client := l.client(t, http2)
		seen := map[string]bool{}
		for deadline := time.Now().Add(patience); !seen["requestInitEvent"] || !seen["responseInitEvent"]; {
			if time.Now().After(deadline) {
				t.Fatalf("HTTP/2 %v: seen only %v", http2, seen)
			}
			req, err := http.NewRequest("GET", "http://"+addrPort(l.Pod("far").IP(), 8080)+"/ok", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer secret-of-the-client")
			req.Header.Set("X-Visible", "yes")
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			for more := true; more; {
				select {
				case line := <-lines:
					if strings.Contains(line, "secret-of-the-client") {
						t.Fatalf("tap shows a secret: %s", line)
					}
					if strings.Contains(line, `{"name":"x-visible","valueStr":"yes"}`) && strings.Contains(line, `{"name":"authorization","valueStr":"[redacted]"}`) {
						seen["requestInitEvent"] = true
					}
					if strings.Contains(line, "responseInitEvent") && strings.Contains(line, `{"name":"date",`) {
						seen["responseInitEvent"] = true
					}
				case <-time.After(100 * time.Millisecond):
					more = false
				}
			}
		}
	}
}

// tapLines starts a tap, which the end of the test ends.
func tapLines(t *testing.T, cmd *exec.Cmd) <-chan string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, done := make(chan string, 1000), make(chan struct{})
	go func() {
		defer close(done)
		in := bufio.NewReader(out)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			select {
			case lines <- line:
			default:
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_, _ = io.Copy(io.Discard, out)
		<-done
		_ = cmd.Wait()
	})
	return lines
}
