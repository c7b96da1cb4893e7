package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/lab/host"
)

// lasting is the manifest of a pod whose servers end at SIGTERM, and which is there itself for the whole
// grace period.
func lasting(p podSpec) string {
	p.Command = []string{"sh", "-c", strings.Join(p.Command, " ") + " & trap 'kill -9 '$! TERM; while :; do sleep 0.1; done"}
	return strings.Replace(p.manifest(), `"spec":{`, `"spec":{"terminationGracePeriodSeconds":10,`, 1)
}

// TestTerminatingPodThatListensNoMore: a pod that is being deleted and listens nowhere
// refuses connections from outside the mesh, as it does without the mesh, before its
// network is removed. Clients in the mesh are told that the pod has ended.
func TestTerminatingPodThatListensNoMore(t *testing.T) {
	t.Parallel()
	l := upL7(t, podSpec{Name: "outsider", Node: node1, Command: []string{"labtest", "wait"}})
	outsider := l.Pod("outsider").Netns
	dial := func(addr netip.AddrPort) error {
		return host.InNetns(outsider, func() error {
			c, err := net.DialTimeout("tcp", addr.String(), 5*time.Second)
			if err != nil {
				return err
			}
			defer c.Close()
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			_, _ = c.Read(make([]byte, 1)) // until the agent has tried the application
			return nil
		})
	}
	for _, node := range []string{node1, node2} {
		for _, strict := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, strict %v", node, strict), func(t *testing.T) {
				p := serverPod("ending", node)
				if strict {
					p.Annotations = map[string]string{mesh.AnnotationPolicy: "strict"}
				}
				manifest := lasting(p)
				l.Apply(manifest)
				waitEnrolled(t, l.Lab, "default/ending")
				base := "http://" + addrPort(l.Pod("ending").IP(), 8080) + "/who"
				clients := map[string]func() goneCall{}
				for _, http2 := range []bool{false, true} {
					client := l.client(t, http2)
					ask := func() goneCall { return call(client, base) }
					clients[fmt.Sprintf("HTTP/2 %v", http2)] = ask
					if c := ask(); c.code != 200 {
						t.Fatal(c)
					}
				}
				addrs := l.Pod("ending").IPs
				deleted := make(chan struct{})
				go func() { defer close(deleted); lab.Run(l.Command("delete", "pod/ending")) }()
				defer func() { kill(t, l.Lab, "ending"); <-deleted }()
				if strict { // nobody outside makes the agent try
					l.Eventually(patience, func() error {
						if c := clients["HTTP/2 false"](); strings.TrimSpace(c.text) != mesh.ReasonPodGone.Text() {
							return fmt.Errorf("%s, want %s", c, mesh.ReasonPodGone)
						}
						return nil
					})
				}
				for _, addr := range addrs {
					l.Eventually(patience, func() error {
						if err := dial(netip.AddrPortFrom(addr, 8080)); !errors.Is(err, unix.ECONNREFUSED) {
							return fmt.Errorf("a connection from outside to %s: %v, want %w", addr, err, unix.ECONNREFUSED)
						}
						return nil
					})
				}
				for name, ask := range clients {
					if c := ask(); strings.TrimSpace(c.text) != mesh.ReasonPodGone.Text() {
						t.Errorf("%s, in the mesh: %s, want %s", name, c, mesh.ReasonPodGone)
					}
				}
				if s := l.Pod("ending").Status; s != "Terminating" {
					t.Errorf("the pod is %s, want that it is not removed yet", s)
				}
			})
		}
	}
}
