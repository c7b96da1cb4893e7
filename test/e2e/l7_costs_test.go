package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

// podCosts is `agent top --pods -o json`.
type podCosts struct {
	Pods []struct {
		Namespace, Pod    string
		Weight            int
		Outbound, Inbound struct {
			CPU, CPUSeconds, WaitsPerSecond                  float64
			Connections, Descriptors, Clients, BufferedBytes int
		}
	}
}

// TestPodCosts: of two pods that are connected to a server of another node, one makes
// requests as quickly as it can. The agents of both nodes say which of their pods cost
// something, and how much: nearly what their process used.
func TestPodCosts(t *testing.T) {
	l := lab.Up(t, lab.Options{}, manifests(
		clientPod("busy", node1), clientPod("quiet", node1), serverPod("server", node2), serverPod("spare", node2)))
	waitEnrolled(t, l, "default/busy", "default/quiet", "default/server", "default/spare")
	url := "http://" + addrPort(l.Pod("server").IP(), 8080) + "/bytes/1000"
	requests := func(pod string, args ...string) *background {
		return inPod(t, l, pod, append(append([]string{"labtest", "get", "--summary", "-n", "0", "--duration", "5m", "--until-eof"}, args...), url)...)
	}
	const (
		connections  = 8
		leastProcess = 0.3 // seconds; the process's clock has ticks of 10 ms
	)
	quiet := requests("quiet", "--interval", "100ms")
	busy := requests("busy", "-c", fmt.Sprint(connections))
	l.Eventually(patience, func() error {
		seen := metrics(t, l, node1)
		for pod, want := range map[string]float64{"busy": connections, "quiet": 1} {
			if got := metric(seen, "underlane_pod_connections", "pod="+pod, "direction=outbound"); got != want {
				return fmt.Errorf("%s has %v connections, want %v", pod, got, want)
			}
		}
		return nil
	})
	for _, at := range []struct {
		node, busy, idle string
		quiet            string // "": none
		inbound          bool
	}{
		{node: node1, busy: "busy", quiet: "quiet"},
		{node: node2, busy: "server", idle: "spare", inbound: true},
	} {
		direction := "direction=outbound"
		if at.inbound {
			direction = "direction=inbound"
		}
		before := metrics(t, l, at.node)
		var got podCosts
		var process, pods, most float64
		l.Eventually(patience, func() error {
			if out := l.Agent(at.node, "top", "--pods", "--duration", "3s", "-o", "json"); json.Unmarshal([]byte(out), &got) != nil {
				t.Fatalf("top --pods: got no JSON:\n%s", out)
			}
			after := metrics(t, l, at.node)
			grown := func(name string, labels ...string) float64 {
				return metric(after, name, labels...) - metric(before, name, labels...)
			}
			const name = "underlane_pod_processor_seconds_total"
			process, pods, most = grown("process_cpu_seconds_total"), grown(name), grown(name, "pod="+at.busy, direction)
			if process < leastProcess {
				return fmt.Errorf("the agent of %s has used %.2f s of processor time, want %.2f s for a comparison", at.node, process, leastProcess)
			}
			return nil
		})
		t.Logf("%s: the process used %.2f s, %.2f s of it for pods; top: %+v", at.node, process, pods, got)
		if pods < 0.7*process || pods > 1.3*process {
			t.Errorf("%s: pods cost %.2f s of processor time, want the %.2f s of the agent, or up to 30 %% less or more", at.node, pods, process)
		}
		if most < 0.9*pods {
			t.Errorf("%s: %s costs %.2f s of %.2f s, want nine tenths at least", at.node, at.busy, most, pods)
		}
		for _, p := range got.Pods {
			side, other := p.Outbound, p.Inbound
			if at.inbound {
				side, other = other, side
			}
			if p.Weight != 100 || other.CPU > side.CPU || other.Connections != 0 {
				t.Errorf("%s: %s: got %+v, want the weight 100, and use in one direction", at.node, p.Pod, p)
			}
			switch p.Pod {
			case at.busy:
				if side.CPU <= 0 || side.Connections == 0 || side.Descriptors < side.Connections || side.Clients == 0 {
					t.Errorf("%s: %s: got %+v, want processor time and connections", at.node, p.Pod, p)
				}
				if !at.inbound && side.Connections != connections {
					t.Errorf("%s: %s: got %d connections, want %d", at.node, p.Pod, side.Connections, connections)
				}
			case at.quiet:
				if side.Connections != 1 || side.CPU > pods/5 {
					t.Errorf("%s: %s: got %+v, want one connection and little processor time", at.node, p.Pod, p)
				}
			case at.idle:
				if side.CPU != 0 || side.CPUSeconds != 0 || side.Connections != 0 {
					t.Errorf("%s: %s: got %+v, want nothing", at.node, p.Pod, p)
				}
			default:
				t.Errorf("%s: got the pod %s, want those of the mesh on this node", at.node, p.Pod)
			}
		}
		if len(got.Pods) != 2 {
			t.Errorf("%s: got %d pods, want 2", at.node, len(got.Pods))
		}
	}
	busy.end()
	quiet.end()

	l.Delete(clientPod("busy", node1).manifest())
	waitLeft(t, l, node1, "default/busy")
	l.Eventually(patience, func() error {
		for _, s := range metrics(t, l, node1) {
			if strings.HasPrefix(s.name, "underlane_pod_") && s.labels["pod"] == "busy" {
				return fmt.Errorf("the pod has ended, and %s is there", s.name)
			}
		}
		return nil
	})
}
