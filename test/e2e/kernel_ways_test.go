package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// TestConnectionsOfEachWay: tap has the opening and the end of each opaque connection, with its
// bytes, its round-trip time, its process and why it was cut; and top counts it. So it is on the
// kernel path, by the proxy of one node, between nodes, and for pods that are only watched, as each
// agent sees it.
func TestConnectionsOfEachWay(t *testing.T) {
	t.Parallel()
	direct := serverPod("direct", node1)
	direct.Annotations = map[string]string{"underlane.io/opaque-ports": "7000,7002"}
	l := lab.Up(t, lab.Options{}, manifests(
		direct, serverPod("proxied", node1), clientPod("near", node1), clientPod("far", node2),
		watched(serverPod("shown", node1)), watched(clientPod("eye", node1)), watched(clientPod("afar", node2))))
	waitEnrolled(t, l, "default/direct", "default/proxied", "default/near", "default/far")
	for _, way := range []struct {
		name, client, server string
		node                 string // whose agent is asked
		origin, tls          string
		direction            string
		process              string
	}{
		{"kernel", "near", "direct", node1, "kernel", "same-node", "OUTBOUND", "labtest"},
		{"same node", "near", "proxied", node1, "proxy", "same-node", "OUTBOUND", "labtest"},
		{"mTLS, client's node", "far", "proxied", node2, "proxy", "true", "OUTBOUND", "labtest"},
		{"mTLS, server's node", "far", "proxied", node1, "proxy", "true", "INBOUND", ""},
		{"watched, client's node", "afar", "shown", node2, "kernel", "not-proxied", "OUTBOUND", "labtest"},
		{"watched, server's node", "afar", "shown", node1, "kernel", "not-proxied", "INBOUND", "labtest"},
		{"watched, one node", "eye", "shown", node1, "kernel", "not-proxied", "OUTBOUND", "labtest"},
	} {
		t.Run(way.name, func(t *testing.T) {
			tap := startTap(t, l, way.node)
			host := l.Pod(way.server).IP()
			// Connections of this way, to a port, that tap shows so far.
			shown := func(port int) (opened, closed []event) {
				all := tap.all(func(e event) bool {
					return e.Source.Metadata["pod"] == way.client && e.Destination.Metadata["pod"] == way.server && int(e.Destination.Port) == port &&
						e.Origin == way.origin && e.TLS == way.tls && e.ProxyDirection == way.direction
				})
				for _, e := range all {
					if e.ConnOpenEvent != nil {
						opened = append(opened, e)
					} else if e.ConnCloseEvent != nil {
						closed = append(closed, e)
					}
				}
				return opened, closed
			}
			// A destination takes the kernel path from its second connection on.
			connect := func(port int, do ...string) (opened, closed event) {
				t.Helper()
				l.Eventually(patience, func() error {
					before, _ := shown(port)
					l.Exec(way.client, append([]string{"labtest"}, append(do, addrPort(host, port))...)...)
					for range 40 {
						if o, c := shown(port); len(o) > len(before) && len(c) >= len(o) {
							opened, closed = o[len(o)-1], c[len(c)-1]
							return nil
						}
						time.Sleep(25 * time.Millisecond)
					}
					return fmt.Errorf("tap shows no connection of this way to port %d", port)
				})
				return opened, closed
			}

			opened, closed := connect(7002, "send", "--bytes", "300000")
			c := closed.ConnCloseEvent
			if opened.ConnOpenEvent.Process != way.process || opened.Source.Port != closed.Source.Port {
				t.Errorf("opened as %s\nclosed as %s", opened, closed)
			}
			if c.Event != "close" || closed.Reason != "" || c.SentBytes != 300000 || c.ReceivedBytes == 0 || c.Process != way.process ||
				c.SRTT.get() <= 0 || c.SRTT.get() > patience || c.Duration.get() <= 0 || c.Duration.get() > patience {
				t.Errorf("the end of 300000 bytes: %s", closed)
			}

			_, closed = connect(7000, "dial", "--reset")
			if c := closed.ConnCloseEvent; c.Event != "reset" || closed.Reason == "" || c.SentBytes == 0 || c.ReceivedBytes == 0 || c.SRTT.get() <= 0 {
				t.Errorf("the end of a connection that was cut: %s", closed)
			}

			l.Eventually(patience, func() error {
				asking := l.PodCommand(way.client, "labtest", "knock", addrPort(host, 7000))
				in, err := asking.StdinPipe()
				if err == nil {
					err = asking.Start()
				}
				if err != nil {
					return err
				}
				out := l.Agent(way.node, "top", "--once", "--duration", "2s", "-o", "json")
				in.Close()
				if err := asking.Wait(); err != nil {
					return err
				}
				var got top
				if err := json.Unmarshal([]byte(out), &got); err != nil {
					return err
				}
				for _, r := range got.Rows {
					if strings.Contains(r.Source, way.client) && strings.Contains(r.Destination, way.server) && r.Path == ":7000" && r.Successes > 0 {
						return nil
					}
				}
				return fmt.Errorf("top has no row of it:\n%s", out)
			})
		})
	}
}
