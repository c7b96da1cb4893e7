package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/lab/layout"
)

// layoutOf is where a lab has its files.
func layoutOf(t *testing.T, l *lab.Lab) layout.Layout {
	t.Helper()
	lay, err := layout.Open(l.Name())
	if err != nil {
		t.Fatal(err)
	}
	return lay
}

func TestControllerAway(t *testing.T) {
	t.Parallel()
	late := clientPod("late", node1)
	late.Labels = nil
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), late, serverPod("web", node2)))
	waitEnrolled(t, l, "default/client", "default/web")
	web := l.Pod("web").IP().String()
	connected := func(want bool) {
		t.Helper()
		for _, node := range []string{node1, node2} {
			l.Eventually(patience, func() error {
				s, err := tryStatus(l, node)
				if err == nil && (s.Controller.Connected != want || !s.Ready) {
					err = fmt.Errorf("%s: connected %v, ready %v, want %v and true", node, s.Controller.Connected, s.Ready, want)
				}
				return err
			})
		}
	}
	tap := startTap(t, l, node1)
	knocks := inPod(t, l, "client", "labtest", "knock", web+":7000")
	knocks.line()
	session := inPod(t, l, "client", "labtest", "session", "http://"+web+":8080/")
	session.line()

	l.RestartController()
	connected(true)

	l.KillController()
	connected(false)
	began := time.Now()
	l.Label("pod/late", "underlane.io/mesh=enabled") // nobody hears it yet
	if r := l.TryAgent(node1, "check"); r.Code != 0 || !strings.Contains(r.Stdout, "‼ controller is connected") {
		t.Errorf("check without a controller, want a warning: %s", r)
	}
	time.Sleep(time.Until(began.Add(time.Second))) // traffic goes on
	if s := agentStatus(t, l, node1); s.podState("default/late") != "" {
		t.Errorf("pod late is %s, and there was no controller to say so", s.podState("default/late"))
	}
	l.StartController()
	connected(true)
	waitEnrolled(t, l, "default/late")
	l.Exec("late", "labtest", "get", "http://"+web+":8080/late")
	tap.wait("the request of the pod that joined", func(e event) bool {
		return e.RequestInitEvent != nil && e.RequestInitEvent.Path == "/late" && e.TLS == "true" && e.Source.Metadata["pod"] == "late"
	})

	for _, a := range readKnocks(t, knocks) {
		if a.Stage != "done" {
			t.Errorf("a connection failed while the controller was away: %+v", a)
		}
	}
	session.end()
	for _, e := range tap.all(func(e event) bool { return e.TLS != "true" || e.Reason != "" }) {
		t.Errorf("not all was as before: %s", e)
	}
}

// A controller that is slow to say whose an address is is waited for: what is taken
// for unknown is reached in plaintext, which a strict server refuses.
func TestControllerStalls(t *testing.T) {
	t.Parallel()
	server := serverPod("server", node2)
	server.Annotations = map[string]string{"underlane.io/policy": "strict"}
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), server))
	waitEnrolled(t, l, "default/client", "default/server")
	controller := l.State().Controller.Pid
	if err := syscall.Kill(controller, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn := func() { _ = syscall.Kill(controller, syscall.SIGCONT) }
	t.Cleanup(goOn)
	time.AfterFunc(3*time.Second, goOn)
	knocks := inPod(t, l, "client", "labtest", "knock", "--timeout", "60s", l.Pod("server").IP().String()+":7000")
	knocks.line()
	attempts := readKnocks(t, knocks)
	for _, a := range attempts {
		if a.outcome() != "done" {
			t.Errorf("%+v", a)
		}
	}
	if took := attempts[0].Took; took < 100*time.Millisecond {
		t.Errorf("the first attempt took %s: it did not wait for the controller", took)
	}
}

// A controller that says nothing, for it hangs or somebody keeps its words from
// the node, does not have a client send plaintext to a pod of the mesh.
func TestControllerIsSilent(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), serverPod("server", node2)))
	waitEnrolled(t, l, "default/client", "default/server")
	tap := startTap(t, l, node1)
	controller := l.State().Controller.Pid
	if err := syscall.Kill(controller, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn := func() { _ = syscall.Kill(controller, syscall.SIGCONT) }
	t.Cleanup(goOn)
	server := l.Pod("server")
	for _, ip := range []netip.Addr{server.IP(), server.IP6()} {
		url := "http://" + addrPort(ip, 8080) + "/secret"
		if r := l.TryExec("client", "labtest", "get", url); !strings.Contains(r.Stdout, "a time limit passed") {
			t.Errorf("%s: %s", url, r)
		}
		end := tap.wait("the refusal of "+url, func(e event) bool { return e.ResponseEndEvent != nil && to(e, ip, 8080) })
		if end.Reason != "timeout" {
			t.Errorf("%s", end)
		}
	}
	goOn()
	l.Eventually(patience, func() error {
		if r := l.TryExec("client", "labtest", "get", "http://"+addrPort(server.IP(), 8080)+"/status/200"); r.Code != 0 {
			return fmt.Errorf("after the controller went on: %s", r)
		}
		return nil
	})
}

// A service that only the mesh knows: the lab's nodes have no rule for it.
const meshOnly = `apiVersion: v1
kind: Service
metadata:
  name: extra
  namespace: default
spec:
  clusterIP: 10.78.200.1
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
`

func TestBrokenManifest(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), serverPod("web", node2)))
	waitEnrolled(t, l, "default/client", "default/web")
	dir := layoutOf(t, l).Manifests()
	file := filepath.Join(dir, "extra.yaml")
	write := func(text string) {
		t.Helper()
		staged := filepath.Join(t.TempDir(), "staged")
		if err := os.WriteFile(staged, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(staged, file); err != nil {
			t.Fatal(err)
		}
	}
	works := func(path string, timeout time.Duration) error {
		if r := l.TryExec("client", "labtest", "get", "--timeout", timeout.String(), "http://10.78.200.1"+path); r.Code != 0 || !strings.Contains(r.Stdout, `"hostname":"web"`) {
			return fmt.Errorf("%s", r)
		}
		return nil
	}
	write(meshOnly)
	l.Eventually(patience, func() error { return works("/good", 2*time.Second) })

	for name, c := range map[string]struct {
		text, reason string
		line         int
	}{
		"no YAML":       {strings.Replace(meshOnly, "  namespace: default", "  namespace: [default", 1), "yaml", 0},
		"unknown field": {strings.Replace(meshOnly, "  selector:", "  selektor:", 1), "selektor", 0},
		"wrong type":    {strings.Replace(meshOnly, "port: 80,", "port: eighty,", 1), "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			write(c.text)
			var problem struct {
				File, Reason string
				Line         int
			}
			l.Eventually(patience, func() error {
				var s struct {
					ManifestProblems []struct {
						File, Reason string
						Line         int
					}
				}
				out := l.NodeExec("controller", "labtest", "get", "http://127.0.0.1:4192/status")
				if err := json.Unmarshal([]byte(out), &s); err != nil {
					return err
				}
				if len(s.ManifestProblems) != 1 {
					return fmt.Errorf("the controller reports %s", out)
				}
				problem = s.ManifestProblems[0]
				return nil
			})
			if filepath.Base(problem.File) != "extra.yaml" || problem.Line == 0 || problem.Reason == "" || !strings.Contains(problem.Reason, c.reason) {
				t.Errorf("the controller reports %+v", problem)
			}
			if log := l.Logs("controller"); !strings.Contains(log, "extra.yaml") || !strings.Contains(log, fmt.Sprint(problem.Line)) {
				t.Errorf("the controller's log does not say so:\n%s", log)
			}
			m := scrape(t, l, "controller", "http://127.0.0.1:4192/metrics")
			if n := metric(m, "underlane_controller_problems", "kind=manifest"); n != 1 {
				t.Errorf("the controller counts %v broken manifests", n)
			}
			if err := works("/last-good-state", patience); err != nil {
				t.Errorf("with the last good state: %v", err)
			}
			write(meshOnly)
			l.Eventually(patience, func() error {
				if n := metric(scrape(t, l, "controller", "http://127.0.0.1:4192/metrics"), "underlane_controller_problems", "kind=manifest"); n != 0 {
					return fmt.Errorf("still %v broken manifests", n)
				}
				return nil
			})
		})
	}

	// Other files are not held up by a broken one.
	write("{")
	other := clientPod("other", node1)
	l.Apply(manifests(other))
	waitEnrolled(t, l, "default/other")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	l.Eventually(patience, func() error {
		if works("/gone", 2*time.Second) == nil {
			return fmt.Errorf("a service whose manifest is gone still answers")
		}
		return nil
	})
}
