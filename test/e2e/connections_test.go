package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/agentapi"
)

// connectionsOf asks the agents of nodes for open connections.
func connectionsOf(t *testing.T, l *l7Lab, nodes ...string) *agentapi.API {
	t.Helper()
	a := &agentapi.API{}
	for _, node := range nodes {
		client, closeConn, err := agentapi.Dial(nodeOf(t, l.Lab, node).Socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(closeConn)
		a.Agents = append(a.Agents, agentapi.Agent{Node: node, Client: client})
	}
	return a
}

// legsText is a connection as text: its ends, what it is and its legs.
func legsText(c *tapv1alpha1.Connection) string {
	text := fmt.Sprintf("%s > %s %s %s", c.Source.Pod, c.Destination.Pod, c.Protocol, c.Secured)
	if c.Part != "" {
		text += " " + c.Part
	}
	for _, leg := range c.Legs {
		text += fmt.Sprintf(" [%s %s]", leg.Node, leg.Part)
	}
	return text
}

// haveFacts says what an open connection, or one of its legs, lacks of the kernel's facts.
func haveFacts(c *tapv1alpha1.Connection) error {
	few := uint64(50)
	if c.Protocol == "tcp" {
		few = 900
	}
	if c.SRTT <= 0 || c.ReadBytes < few || c.WriteBytes < few || c.Since == nil {
		return fmt.Errorf("%s: %+v, want a round-trip time, bytes both ways, and a time", legsText(c), c)
	}
	for _, leg := range c.Legs {
		if leg.SRTT <= 0 || leg.Received < few || leg.Sent < few || leg.Local == "" || leg.Remote == "" {
			return fmt.Errorf("%s: leg %+v, want its facts and addresses", legsText(c), leg)
		}
	}
	return nil
}

// TestOpenConnections holds connections of every kind open: opaque ones, HTTP/1.1 and
// HTTP/2, within a node and to another one, and one that the client's agent does not carry.
// The agents list them with the kernel's facts, and count what they carry before they end.
func TestOpenConnections(t *testing.T) {
	t.Parallel()
	l := upL7(t, skipping("skipper", node1, "7000"))
	waitEnrolled(t, l.Lab, "default/skipper")
	skipper := dialFrom(t, l.Lab, "skipper")
	line := strings.Repeat("x", 999) + "\n"
	echo := func(from *podDialer, to netip.Addr) net.Conn {
		t.Helper()
		c, err := from.DialContext(t.Context(), "tcp", addrPort(to, 7000))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	say := func(c net.Conn) {
		t.Helper()
		if _, err := io.WriteString(c, line); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	far, near := l.Pod("far").IP(), l.Pod("near").IP()
	opaque := echo(l.from, far)
	for _, c := range []net.Conn{opaque, echo(l.from, near), echo(skipper, far)} {
		say(c)
	}
	for _, http2 := range []bool{false, true} {
		client := l.client(t, http2)
		for _, ip := range []netip.Addr{near, far} {
			resp, err := client.Get("http://" + addrPort(ip, 8080) + "/ok")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatal(resp.Status)
			}
		}
	}

	want := []string{
		"client > far tcp true [node-1 application] [node-1 wire] [node-2 wire] [node-2 application]",
		"client > near tcp same-node [node-1 application] [node-1 application]",
		"skipper > far tcp not-proxied [node-1 wire] [node-2 wire] [node-2 application]",
	}
	for _, protocol := range []string{"http1", "http2"} {
		want = append(want,
			"client > far "+protocol+" same-node application [node-1 application]",
			"client > far "+protocol+" true wire [node-1 wire] [node-2 wire]",
			"client > far "+protocol+" same-node application [node-2 application]",
			"client > near "+protocol+" same-node application [node-1 application]", // the client's
			"client > near "+protocol+" same-node application [node-1 application]", // the server's
		)
	}
	slices.Sort(want)
	both := connectionsOf(t, l, node1, node2)
	var list *tapv1alpha1.ConnectionList
	l.Eventually(patience, func() (err error) {
		if list, err = both.Connections(t.Context(), tapv1alpha1.ConnectionsQuery{}); err != nil {
			return err
		}
		var got []string
		for i := range list.Items {
			got = append(got, legsText(&list.Items[i]))
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" || len(list.Warnings) > 0 {
			return fmt.Errorf("%q (-want +got):\n%s", list.Warnings, diff)
		}
		for i := range list.Items { // bytes count when the peer has acknowledged them, which may take a moment
			err = errors.Join(err, haveFacts(&list.Items[i]))
		}
		return err
	})
	for query, want := range map[tapv1alpha1.ConnectionsQuery]int{
		{Kind: "pod", Name: "skipper"}:                             1,
		{Kind: "pod", Name: "near", Namespace: "default"}:          5,
		{Namespace: "elsewhere"}:                                   0,
		{Kind: "pod", Name: "far", Node: node2, Limit: 100}:        6,
		{Kind: "pod", Name: "far", Namespace: "default", Limit: 2}: 2,
	} {
		if got, err := both.Connections(t.Context(), query); err != nil || len(got.Items) != want {
			t.Errorf("%+v: %+v %v, want %d connections", query, got, err, want)
		}
	}
	if text := l.Agent(node1, "connections", "pod/skipper", "-o", "wide"); !strings.Contains(text, "default/skipper") || !strings.Contains(text, "default/far") {
		t.Errorf("agent connections prints\n%s\nwant the connection of skipper", text)
	}

	// Nothing has closed, and everything counts.
	rates := func(node, pod string) (read, written float64) {
		row := stat(t, l, node, "pod", pod)[pod]
		return row.Read, row.Written
	}
	l.Eventually(patience, func() error {
		for _, at := range [][2]string{{node1, "near"}, {node2, "far"}} {
			if read, written := rates(at[0], at[1]); read <= 0 || written <= 0 {
				return fmt.Errorf("agent stat of %s: %v and %v bytes a second, want those of open connections", at[1], read, written)
			}
		}
		return nil
	})
	// Each byte counts once: while the connection is open, and after it.
	carried := func() float64 {
		return metric(metrics(t, l.Lab, node1), "tcp_read_bytes_total", "direction=outbound", "dst_pod=far", "peer=src", "tls=true")
	}
	for range 9 {
		say(opaque)
	}
	l.Eventually(patience, func() error {
		if got := carried(); got != 10_000 {
			return fmt.Errorf("open: %v bytes in tcp_read_bytes_total, want 10000", got)
		}
		return nil
	})
	say(opaque)
	opaque.Close()
	l.Eventually(patience, func() error {
		if got := carried(); got != 11_000 {
			return fmt.Errorf("closed: %v bytes in tcp_read_bytes_total, want 11000", got)
		}
		return nil
	})
}
