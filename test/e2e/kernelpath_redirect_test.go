package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/underlane/underlane/test/lab"
)

// kernelEvents is a counter of the kernel at node-1, as `agent status` and the metrics have it.
func kernelEvents(t *testing.T, l *lab.Lab, reason string) uint64 {
	t.Helper()
	n := agentStatus(t, l, node1).KernelEvents[reason]
	if m := uint64(metric(metrics(t, l, node1), "underlane_kernel_events_total", "reason="+reason)); m < n {
		t.Errorf("the metric of %s is %d, and the status had %d before", reason, m, n)
	}
	return n
}

// pastHost tells whether a new connection from near goes past the host.
func pastHost(t *testing.T, l *lab.Lab, to string) bool {
	t.Helper()
	before := kernelEvents(t, l, "kernel-path-redirected")
	if r := say(l, "near", to, "hello"); r.Code != 0 || r.Stdout != "hello" {
		t.Errorf("near to %s: %s", to, r)
	}
	return kernelEvents(t, l, "kernel-path-redirected") > before
}

func awaitPastHost(t *testing.T, l *lab.Lab, to string, want bool) {
	t.Helper()
	l.Eventually(patience, func() error {
		if got := pastHost(t, l, to); got != want {
			return fmt.Errorf("a connection to %s goes past the host: %v, want %v", to, got, want)
		}
		return nil
	})
}

// requireTCX skips a test on a kernel without tcx, which the agent says. Another cause for which
// its trial failed is a fault.
func requireTCX(t *testing.T, l *lab.Lab) {
	t.Helper()
	for line := range strings.Lines(l.Logs(node1)) {
		if !strings.Contains(line, "packets of kernel paths go by way of the host") {
			continue
		}
		if strings.Contains(line, ebpf.ErrNotSupported.Error()) {
			t.Skipf("this kernel has no tcx (Linux 6.6): %s", line)
		}
		t.Fatalf("the trial of redirecting packets: %s", line)
	}
}

// TestRedirectEndsWithPolicy: a policy that selects a pod ends the way past the host, of new
// connections and of one that is open, which goes on. It is so for a NetworkPolicy, and for a
// policy of a kind that only the network's plugin understands. Both allow everything here.
func TestRedirectEndsWithPolicy(t *testing.T) {
	t.Parallel()
	l, _, service := kernelPathLab(t)
	requireTCX(t, l)
	tap := startTap(t, l, node1)
	for _, command := range []string{
		"add table inet e2e", "add chain inet e2e forward { type filter hook forward priority 0; }",
		fmt.Sprintf("add rule inet e2e forward ip saddr %s ip daddr %s counter", l.Pod("near").IP(), l.Pod("server").IP()),
	} {
		l.NodeExec(node1, "nft", command)
	}
	for name, policy := range map[string]string{
		"NetworkPolicy": serverPolicy + "  ingress: [{}]\n",
		"CiliumNetworkPolicy": `---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: server, namespace: default}
spec: {endpointSelector: {matchLabels: {app: server}}, ingress: [{fromEntities: [all]}]}
`,
	} {
		t.Run(name, func(t *testing.T) {
			onKernelPath(t, l, tap, "near", service)
			awaitPastHost(t, l, service, true)
			before := kernelEvents(t, l, "kernel-path-redirected")
			open := dialFrom(t, l, "near").raw(t, service)
			if n := kernelEvents(t, l, "kernel-path-redirected"); n != before+1 {
				t.Fatalf("%d connections have gone past the host, want %d", n, before+1)
			}
			if hostSees(t, l, open) {
				t.Error("the host sees packets of the open connection")
			}
			l.Apply(policy)
			l.Eventually(patience, func() error {
				if !hostSees(t, l, open) {
					return errors.New("the host does not see the packets of the open connection, with the policy")
				}
				return nil
			})
			awaitPastHost(t, l, service, false)
			for range 5 {
				if pastHost(t, l, service) {
					t.Error("a new connection goes past the host again, with the policy")
				}
			}
			l.Delete(policy)
			awaitPastHost(t, l, service, true)
			if !hostSees(t, l, open) {
				t.Error("the connection from before the policy goes past the host again")
			}
		})
	}
}

// hostSees tells whether the packet filter of the host sees what goes over a connection, which
// has to carry bytes both ways.
func hostSees(t *testing.T, l *lab.Lab, c net.Conn) bool {
	t.Helper()
	packets := func() string {
		return regexp.MustCompile("packets [0-9]+").FindString(l.NodeExec(node1, "nft", "list chain inet e2e forward"))
	}
	before := packets()
	if before == "" {
		t.Fatal("the packet filter has no counter")
	}
	if err := echoes(t, c); err != nil {
		t.Fatalf("the open connection: %v", err)
	}
	return packets() != before
}

// TestRedirectOff: the setting turns it off. Connections take the kernel path by way of the host.
func TestRedirectOff(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{AgentArgs: []string{"--kernel-path-redirect=false"}}, manifests(opaqueServer("server"), clientPod("near", node1)), opaqueService("server"))
	waitEnrolled(t, l, "default/server", "default/near")
	service := addrPort(l.ServiceIPs("default/server")[0], 7000)
	onKernelPath(t, l, startTap(t, l, node1), "near", service)
	if pastHost(t, l, service) {
		t.Error("a connection goes past the host, although that is turned off")
	}
	if n := kernelEvents(t, l, "kernel-path"); n < 2 {
		t.Errorf("%d connections on the kernel path, want two", n)
	}
	for _, pin := range strings.Fields(l.NodeExec(node1, "find", "/sys/fs/bpf/"+l.Name(), "-name", "redirect_*")) {
		t.Errorf("a program is attached at a veth: %s", pin)
	}
}

// talker is a connection of a pod that has sent a word and got it back.
type talker struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	stderr strings.Builder
}

func startTalker(t *testing.T, l *lab.Lab, to, timeout string) *talker {
	t.Helper()
	k := &talker{cmd: l.PodCommand("near", "labtest", "dial", "--timeout", timeout, to)}
	in, err := k.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := k.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	k.in, k.cmd.Stderr = in, &k.stderr
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k.say(t)
	if _, err := io.ReadFull(out, make([]byte, 5)); err != nil {
		t.Fatalf("near to %s: %v: %s", to, err, k.stderr.String())
	}
	return k
}

func (k *talker) say(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(k.in, "ping\n"); err != nil {
		t.Fatal(err)
	}
}

// end returns how the program saw its connection end.
func (k *talker) end() string {
	err := k.cmd.Wait()
	_ = k.in.Close()
	_, said, _ := strings.Cut(k.stderr.String(), "\n") // after the addresses
	if i := strings.LastIndex(said, ": "); i >= 0 {
		said = said[i+2:] // without the ports
	}
	return fmt.Sprintf("%v %s", err, strings.TrimSpace(said))
}

// TestRedirectPodGone: when a pod goes in the middle of a connection that goes past the host, its
// peer gets what it would get without the mesh.
func TestRedirectPodGone(t *testing.T) {
	t.Parallel()
	departures := []struct {
		name, timeout string
		gone          func(l *lab.Lab, p podSpec, say func())
	}{
		{"killed", "60s", func(l *lab.Lab, p podSpec, _ func()) { kill(t, l, p.Name) }},
		{"deleted", "60s", func(l *lab.Lab, p podSpec, _ func()) { l.Delete(p.manifest()) }},
		{"unplugged, killed and deleted", "10s", func(l *lab.Lab, p podSpec, say func()) {
			unplug(t, l, p.Name)
			say()
			kill(t, l, p.Name)
			l.Delete(p.manifest())
		}},
	}
	pods, names := []podSpec{clientPod("near", node1)}, []string{"default/near"}
	for i := range departures {
		p := opaqueServer(fmt.Sprintf("server-%d", i))
		pods, names = append(pods, p), append(names, "default/"+p.Name)
	}
	bare := lab.Up(t, lab.Options{NoMesh: true}, manifests(pods...))
	l := lab.Up(t, lab.Options{}, manifests(pods...))
	waitEnrolled(t, l, names...)
	requireTCX(t, l)
	for i, d := range departures {
		t.Run(d.name, func(t *testing.T) {
			outcome := func(l *lab.Lab, prepare func(to string)) string {
				to := addrPort(l.Pod(pods[i+1].Name).IP(), 7000)
				prepare(to)
				k := startTalker(t, l, to, d.timeout)
				d.gone(l, pods[i+1], func() { k.say(t) })
				return k.end()
			}
			want := outcome(bare, func(string) {})
			var before uint64
			got := outcome(l, func(to string) {
				awaitPastHost(t, l, to, true)
				before = kernelEvents(t, l, "kernel-path-redirected")
			})
			if n := kernelEvents(t, l, "kernel-path-redirected"); n != before+1 {
				t.Errorf("%d connections have gone past the host, want %d", n, before+1)
			}
			if got != want {
				t.Errorf("the client got %q, and without the mesh %q", got, want)
			}
			t.Log(got)
		})
	}
}
