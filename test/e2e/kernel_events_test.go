package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/lab"
)

// skipping is a meshed client whose connections to these ports no proxy
// carries.
func skipping(name, node, ports string) podSpec {
	p := clientPod(name, node)
	p.Annotations = map[string]string{"underlane.io/skip-outbound-ports": ports}
	return p
}

// upWithUnproxied is a lab whose meshed pod client skips the ports of web, a
// pod outside the mesh that client's agent knows by name. (It asks for the
// name when it sees the first connection.)
func upWithUnproxied(t *testing.T) *lab.Lab {
	t.Helper()
	web := serverPod("web", node2)
	web.Labels = nil
	l := lab.Up(t, lab.Options{}, manifests(skipping("client", node1, "7000-7009"), web))
	waitEnrolled(t, l, "default/client")
	tap := startTap(t, l, node1)
	made := 0
	l.Eventually(patience, func() error {
		made++
		l.Exec("client", "labtest", "send", l.Pod("web").IP().String()+":7002", "--bytes", "1")
		if len(tap.all(func(e event) bool { return e.Destination.Metadata["pod"] == "web" })) == 0 {
			return fmt.Errorf("no event names the pod web")
		}
		return nil
	})
	l.Eventually(patience, func() error {
		if n := len(tap.all(func(e event) bool { return e.ConnCloseEvent != nil })); n != made {
			return fmt.Errorf("%d connections are closed of %d", n, made)
		}
		return nil
	})
	return l
}

func TestUnproxiedConnectionsAreSeen(t *testing.T) {
	t.Parallel()
	l := upWithUnproxied(t)
	for _, ip := range l.Pod("web").IPs {
		t.Run(family(ip.Is4()), func(t *testing.T) {
			host := ip.String()
			if ip.Is6() {
				host = "[" + host + "]"
			}
			tap := startTap(t, l, node1)
			kernel := func(e event) bool {
				return e.Origin == "kernel" && e.Source.Metadata["pod"] == "client" && e.Destination.IP == ip.String()
			}
			before := metrics(t, l, node1)

			answer := l.Exec("client", "labtest", "send", host+":7002", "--bytes", "300000")
			open := tap.wait("the connection to the sink", func(e event) bool {
				return kernel(e) && e.ConnOpenEvent != nil && e.Destination.Port == 7002
			})
			end := tap.wait("the end of the connection to the sink", func(e event) bool {
				return kernel(e) && e.ConnCloseEvent != nil && e.Destination.Port == 7002
			})
			type facts struct {
				Event, Process, TLS, Direction, Destination string
				Sent, Received                              uint64
			}
			c := end.ConnCloseEvent
			want := facts{"close", "labtest", "not-proxied", "OUTBOUND", "web", 300000, uint64(len(answer))}
			got := facts{c.Event, c.Process, end.TLS, end.ProxyDirection, end.Destination.Metadata["pod"], c.SentBytes, c.ReceivedBytes}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("close (-want +got):\n%s%s", diff, end)
			}
			if c.SRTT.get() <= 0 || c.SRTT.get() > time.Second || c.Duration.get() <= 0 || c.Duration.get() > patience {
				t.Errorf("srtt %s, duration %s", c.SRTT.get(), c.Duration.get())
			}
			if open.ConnOpenEvent.Process != "labtest" || open.Source.Port != end.Source.Port {
				t.Errorf("opened as %s\nclosed as %s", open, end)
			}

			if r := l.TryExec("client", "labtest", "dial", host+":7009"); r.Code == 0 {
				t.Errorf("nobody listens there: %s", r)
			}
			refused := tap.wait("the refused connection", func(e event) bool {
				return kernel(e) && e.ConnCloseEvent != nil && e.Destination.Port == 7009
			})
			if refused.ConnCloseEvent.Event != "refused" || refused.Reason != "refused" || refused.ConnCloseEvent.Process != "labtest" {
				t.Errorf("the refused connection: %s", refused)
			}
			if n := len(tap.all(func(e event) bool { return kernel(e) && e.ConnOpenEvent != nil && e.Destination.Port == 7009 })); n != 0 {
				t.Errorf("%d connections to a closed port were opened", n)
			}

			after := metrics(t, l, node1)
			grown := func(name string, labels ...string) float64 {
				return metric(after, name, labels...) - metric(before, name, labels...)
			}
			if n := grown("underlane_kernel_events_total", "reason=passed-skipped-port"); n != 2 {
				t.Errorf("%v connections to skipped ports were counted, want 2", n)
			}
			if n := grown("tcp_open_total", "direction=outbound", "peer=src"); n != 1 {
				t.Errorf("tcp_open_total has grown by %v, want 1", n)
			}
			if n := grown("tcp_read_bytes_total", "direction=outbound", "peer=src"); n != 300000 {
				t.Errorf("tcp_read_bytes_total has grown by %v, want 300000", n)
			}
		})
	}
}

func family(v4 bool) string {
	if v4 {
		return "IPv4"
	}
	return "IPv6"
}

// top is `agent top -o json`.
type top struct {
	LostEvents uint64
	Rows       []struct {
		Source, Destination, Method, Path string
		Count, Successes, Failures        uint64
		Reasons                           map[string]uint64
	}
}

func TestUnproxiedConnectionsAreInTop(t *testing.T) {
	t.Parallel()
	l := upWithUnproxied(t)
	web := l.Pod("web").IP().String()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // beside top
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			l.TryExec("client", "labtest", "send", web+":7002", "--bytes", "1000")
			l.TryExec("client", "labtest", "dial", web+":7009")
		}
	}()
	defer func() { close(stop); <-stopped }()
	l.Eventually(patience, func() error { // a busy machine may make few of them in that time
		out := l.Agent(node1, "top", "--once", "--duration", "3s", "-o", "json")
		var got top
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var good, refused bool
		for _, r := range got.Rows {
			from := strings.Contains(r.Source, "client") && strings.Contains(r.Destination, "web")
			good = good || from && r.Path == ":7002" && r.Count >= 3 && r.Successes >= 3 && r.Failures == 0
			refused = refused || from && r.Path == ":7009" && r.Count >= 3 && r.Failures == r.Count && r.Reasons["refused"] == r.Count
		}
		if !good || !refused {
			return fmt.Errorf("top shows no row of connections that worked, or none of refused ones:\n%s", out)
		}
		return nil
	})
}

// A stopped agent does not empty the ring buffer: events are lost, which is
// counted, and nothing else breaks.
func TestFullRingBuffer(t *testing.T) {
	server := serverPod("web", node1)
	server.Annotations = map[string]string{"underlane.io/skip-inbound-ports": "8080"}
	l := lab.Up(t, lab.Options{Nodes: 1}, manifests(skipping("client", node1, "8080"), server))
	waitEnrolled(t, l, "default/client", "default/web")
	url := "http://" + l.Pod("web").IP().String() + ":8080/bytes/1"
	if s := agentStatus(t, l, node1); s.RingbufLost != 0 {
		t.Fatalf("%d events are lost at the start", s.RingbufLost)
	}

	l.SignalAgent(node1, "STOP")
	// Four events each (open and close, of client and server), which take 144 bytes of the
	// ring's 4 MiB: it holds some 29,000, of 7,300 connections.
	const connections = 11000
	out := l.Exec("client", "labtest", "get", "--fresh", "--summary", "-n", fmt.Sprint(connections), "-c", "4", url)
	l.SignalAgent(node1, "CONT")
	var s struct{ Requests, Failed int }
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.Requests != connections || s.Failed != 0 {
		t.Errorf("connections of a pod whose agent is stopped: %v %s", err, out)
	}

	l.Eventually(patience, func() error {
		st, err := tryStatus(l, node1)
		if err == nil && (!st.Ready || st.RingbufLost == 0) {
			err = fmt.Errorf("ready %v, %d events lost", st.Ready, st.RingbufLost)
		}
		return err
	})
	st := agentStatus(t, l, node1)
	if st.RingbufLost > 4*connections-28000 {
		t.Errorf("%d events were lost of %d: the ring holds more than that", st.RingbufLost, 4*connections)
	}
	if n := metric(metrics(t, l, node1), "underlane_ringbuf_lost_total"); n != float64(st.RingbufLost) {
		t.Errorf("metrics say that %v events were lost, status says %d", n, st.RingbufLost)
	}
	if out := l.Agent(node1, "check"); !strings.Contains(out, "‼ no kernel events are lost") {
		t.Errorf("check does not warn of lost events:\n%s", out)
	}
	tap := startTap(t, l, node1)
	l.Exec("client", "labtest", "get", url)
	tap.wait("a connection after the loss", func(e event) bool { return e.Origin == "kernel" && e.ConnCloseEvent != nil })
}
