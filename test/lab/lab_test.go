package lab_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/lab"
)

// answer is labtest's JSON response, which describes the request.
type answer struct{ Hostname, RemoteAddr, LocalAddr, Path string }

func ask(t *testing.T, l *lab.Lab, pod, url string) answer {
	t.Helper()
	var a answer
	if err := json.Unmarshal([]byte(l.Exec(pod, "labtest", "get", url)), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestPods(t *testing.T) {
	l := lab.Up(t, lab.Options{NoMesh: true}, "testdata/two-nodes.yaml")
	var webs []string
	for _, p := range l.State().Pods {
		if p.Deployment == "web" {
			webs = append(webs, p.Node)
		}
	}
	if diff := cmp.Diff([]string{"node-1", "node-2"}, sorted(webs)); diff != "" {
		t.Errorf("replicas are not spread (-want +got):\n%s", diff)
	}
	client := l.Pod("shop/client-1")
	vips := l.ServiceIPs("shop/web")

	t.Run("pod to pod", func(t *testing.T) {
		for _, p := range l.State().Pods {
			if p.Deployment != "web" {
				continue
			}
			for i, ip := range p.IPs {
				a := ask(t, l, "shop/client-1", fmt.Sprintf("http://%s/x", hostPort(ip.String(), 8080)))
				if a.Hostname != p.Name || a.Path != "/x" {
					t.Errorf("%s answered %+v, want its own name and address", p.Name, a)
				}
				if !strings.HasPrefix(strings.Trim(a.RemoteAddr, "["), client.IPs[i].String()) {
					t.Errorf("%s saw the client address %s, want %s", p.Name, a.RemoteAddr, client.IPs[i])
				}
			}
		}
	})

	t.Run("cluster ip", func(t *testing.T) {
		for _, host := range []string{"web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local", vips[0].String(), "[" + vips[1].String() + "]"} {
			var s struct {
				Failed int
				Hosts  map[string]int
			}
			out := l.Exec("shop/client-2", "labtest", "get", "http://"+host, "-n", "60", "--fresh", "--summary")
			if err := json.Unmarshal([]byte(out), &s); err != nil {
				t.Fatal(err)
			}
			// The chance that all 60 connections choose the same of two is 1 in 2^59.
			if s.Failed != 0 || len(s.Hosts) != 2 {
				t.Errorf("%s: got %s, want answers from both pods", host, out)
			}
		}
	})

	t.Run("every protocol of labtest", func(t *testing.T) {
		cmd := l.PodCommand("shop/client-1", "labtest", "dial", "web:3306")
		cmd.Stdin = strings.NewReader("hello\n")
		r := lab.Run(cmd)
		if r.Code != 0 || !strings.HasPrefix(r.Stdout, "220 web-") || !strings.HasSuffix(r.Stdout, "hello\n") {
			t.Errorf("banner: got %s, want the greeting of web and an echo", r)
		}
		l.Exec("shop/client-1", "labtest", "send", "web:7002", "--bytes", "3000000")
		out := l.Exec("shop/client-1", "labtest", "get", "--http2", "http://web/", "--body", "100000")
		if !strings.Contains(out, `"proto":"HTTP/2.0"`) || !strings.Contains(out, `"bodyBytes":100000`) {
			t.Errorf("HTTP/2: got %s, want HTTP/2.0 with 100000 bytes", out)
		}
	})

	t.Run("hairpin and node", func(t *testing.T) {
		web := l.Pod("shop/deploy/web")
		for _, vip := range vips {
			for range 8 {
				ask(t, l, "shop/"+web.Name, "http://"+hostPort(vip.String(), 80))
			}
			out := l.NodeExec("node-1", "labtest", "get", "http://"+hostPort(vip.String(), 80))
			if !strings.Contains(out, "192.168.77.1:") && !strings.Contains(out, "[fd77::1]:") {
				t.Errorf("the server answered %s, want the node's own address in it", out)
			}
		}
	})

	t.Run("what is not there fails at once", func(t *testing.T) {
		for url, want := range map[string]string{
			"http://nobody/":         "connection refused",
			"http://10.78.9.9/":      "connection refused",
			"http://[fd78::9999]/":   "connection refused",
			"http://nosuch.example/": "lookup nosuch.example",
		} {
			began := time.Now()
			r := l.TryExec("shop/client-1", "labtest", "get", url)
			if r.Code != 1 || !strings.Contains(r.Stderr, want) {
				t.Errorf("%s: %s, want %q", url, r, want)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("%s took %s to fail, want at most 8s", url, took)
			}
		}
	})

	t.Run("exec passes through", func(t *testing.T) {
		cmd := l.PodCommand("shop/client-1", "sh", "-c", "cat; echo err >&2; hostname; exit 7")
		cmd.Stdin = strings.NewReader("in\n")
		r := lab.Run(cmd)
		if r.Code != 7 || r.Stdout != "in\nclient-1\n" || r.Stderr != "err\n" {
			t.Errorf("got %s, want code 7 and the input, the pod's name and err", r)
		}
		if out := l.Exec("shop/client-1", "tail", "-1", "/proc/self/cgroup"); !strings.Contains(out, "/node-1/pods/shop_client-1_pod") {
			t.Errorf("exec runs in the cgroup %s, want that of the pod", out)
		}
	})

	t.Run("environment and log", func(t *testing.T) {
		want := "started at " + l.Pod("shop/client-2").IP().String() + "\n"
		if got := l.Logs("shop/client-2"); got != want {
			t.Errorf("log %q, want %q", got, want)
		}
	})

	t.Run("headless", func(t *testing.T) {
		out := l.Exec("shop/client-1", "getent", "ahosts", "web-headless")
		for _, p := range l.State().Pods {
			for _, ip := range p.IPs {
				if got, want := strings.Contains(out, ip.String()+" "), p.Deployment == "web"; got != want {
					t.Errorf("%s resolves to %s: %v, want %v:\n%s", "web-headless", ip, got, want, out)
				}
			}
		}
	})
}

func TestChangesWhileRunning(t *testing.T) {
	l := lab.Up(t, lab.Options{NoMesh: true}, "testdata/two-nodes.yaml")
	manifests := filepath.Join("/run", l.Name(), "manifests")

	l.Label("shop/pod/client-1", "color=red", "app-")
	l.Label("ns/shop", "underlane.io/mesh=enabled")
	l.Annotate("shop/deploy/web", "underlane.io/policy=strict")
	for file, want := range map[string]string{
		"pod_shop_client-1.yaml":                              "color: red",
		"namespace__shop.yaml":                                "underlane.io/mesh: enabled",
		"pod_shop_" + l.Pod("shop/deploy/web").Name + ".yaml": "underlane.io/policy: strict",
	} {
		if text, err := os.ReadFile(filepath.Join(manifests, file)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s does not say %q: %v\n%s", file, want, err, text)
		}
	}

	l.Scale("shop/deploy/web", 4)
	out := l.Exec("shop/client-1", "getent", "hosts", "web")
	before := l.State()
	if n := replicas(before, "web"); n != 4 {
		t.Errorf("%d replicas after scaling to 4, want 4", n)
	}
	l.Scale("shop/deploy/web", 1)
	if n := replicas(l.State(), "web"); n != 1 {
		t.Errorf("%d replicas after scaling to 1, want 1", n)
	}
	if got := l.Exec("shop/client-1", "labtest", "get", "http://web/", "-n", "10", "--fresh", "--summary"); !strings.Contains(got, `"failed":0`) {
		t.Errorf("with one replica: got %s (name %s), want no failed request", got, out)
	}

	l.Apply("testdata/late.yaml")
	if a := ask(t, l, "shop/client-1", "http://late.other/"); a.Hostname != "late" {
		t.Errorf("late service: got %+v, want an answer from late", a)
	}
	l.Delete("testdata/late.yaml")
	if r := l.TryExec("shop/client-1", "labtest", "get", "http://late.other/"); r.Code == 0 {
		t.Errorf("a deleted service: got %s, want a failure", r)
	}
	if _, err := os.Stat(filepath.Join(manifests, "pod_other_late.yaml")); !os.IsNotExist(err) {
		t.Errorf("manifest of a deleted pod: got %v, want that it does not exist", err)
	}

	web := l.Pod("shop/deploy/web")
	must(t, lab.Run(l.Command("delete", "-n", "shop", "pod/"+web.Name)))
	if again := l.Pod("shop/deploy/web"); again.Name == web.Name || again.UID == web.UID {
		t.Errorf("got %+v, want a new pod of the deployment", again)
	}
}

func TestCrashingContainerIsRestarted(t *testing.T) {
	l := lab.Up(t, lab.Options{NoMesh: true, Nodes: 1}, pod("crasher", "labtest", "http"))
	before := l.Pod("crasher")
	killIn(t, before.Cgroup, "labtest")
	l.Eventually(30*time.Second, func() error {
		p := l.Pod("crasher")
		if !p.Ready || p.Restarts != 1 {
			return fmt.Errorf("ready %v, %d restarts, want 1", p.Ready, p.Restarts)
		}
		if p.Pid != before.Pid || p.UID != before.UID {
			return fmt.Errorf("the pod itself was replaced")
		}
		return nil
	})
}

func TestUpSaysWhyAPodIsNotReady(t *testing.T) {
	lab.Up(t, lab.Options{NoMesh: true, Nodes: 1}, pod("ok", "labtest", "wait")) // builds the programs, and shows that labs can run side by side
	for name, c := range map[string]struct {
		manifest string
		want     []string
	}{
		// A port, because without one a pod is ready while its program runs. Only once,
		// because a restarted program may be running when the time is over.
		"crashes":     {strings.Replace(withPort(pod("sad", "sh", "-c", "echo my last words; exit 3")), "spec:", "spec:\n  restartPolicy: Never", 1), []string{"pod default/sad on node-1", "exit status 3", "my last words"}},
		"no program":  {pod("sad", "no-such-program"), []string{"default/sad", `"no-such-program": no such program`}},
		"no listener": {withPort(pod("sad", "labtest", "wait")), []string{"default/sad", "[9999]"}},
		"no node":     {strings.Replace(pod("sad", "true"), "spec:", "spec:\n  nodeName: node-9", 1), []string{`no node "node-9"`}},
		"no command":  {strings.Replace(pod("sad", "true"), "command:", "args:", 1), []string{":6: pod/default/sad", "no command"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "m.yaml")
			if err := os.WriteFile(file, []byte(c.manifest), 0o644); err != nil {
				t.Fatal(err)
			}
			l := lab.New(t)
			r := lab.Run(l.Command("up", "--no-mesh", "--nodes", "1", "--wait", "3s", file))
			if r.Code != 1 {
				t.Fatalf("want failure: %s", r)
			}
			for _, w := range c.want {
				if !strings.Contains(r.Stderr, w) {
					t.Errorf("got the error %s, want %q in it", r, w)
				}
			}
		})
	}
}
