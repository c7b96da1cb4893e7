package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/lab"
)

// statRow is a row of `agent stat -o json`.
type statRow struct {
	Kind, Name, Meshed string
	Success            *float64
	RPS                *float64
	P99                *int `json:"latency_ms_p99"`
	Failures           map[string]int
	Connections        int     `json:"tcp_open_connections"`
	Read               float64 `json:"tcp_read_bytes_rate"`
	Written            float64 `json:"tcp_write_bytes_rate"`
}

// stat returns the rows of `agent stat` by name.
func stat(t *testing.T, l *l7Lab, node string, args ...string) map[string]statRow {
	t.Helper()
	var rows []statRow
	text := l.Agent(node, append(append([]string{"stat"}, args...), "-o", "json", "-t", "10m")...)
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		t.Fatalf("agent stat prints %q: %v", text, err)
	}
	byName := map[string]statRow{}
	for _, r := range rows {
		byName[r.Name] = r
	}
	return byName
}

// figures are the numbers of a row that do not depend on the time.
type figures struct {
	Meshed   string
	Success  float64
	Failures map[string]int
	Timed    bool // it has a latency
}

func figuresOf(r statRow) figures {
	f := figures{Meshed: r.Meshed, Success: -1, Failures: r.Failures, Timed: r.P99 != nil}
	if r.Success != nil {
		f.Success = *r.Success
	}
	return f
}

// TestStatAndEdges makes requests between pods of one node and of two, some of which fail,
// and looks at what each agent says of them.
func TestStatAndEdges(t *testing.T) {
	t.Parallel()
	outside := serverPod("outside", node2)
	outside.Labels = nil
	// A machine that stands still for 2 s must not make an agent count as hung: what connects
	// then goes past it, as it should, and edges say so.
	l := upL7With(t, lab.Options{AgentArgs: []string{"--heartbeat-timeout=1m"}}, webPod("web-1", node2), outside)
	l.Apply(webService)
	waitEnrolled(t, l.Lab, "default/web-1")
	client := l.client(t, false)
	get := func(n int, host, path string) {
		for range n {
			resp, err := client.Get("http://" + host + path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil { // so that the next request finds the connections idle
				t.Fatal(err)
			}
			resp.Body.Close()
		}
	}
	service := addrPort(l.ServiceIPs("default/web")[0], 80)
	get(15, service, "/ok")
	get(5, service, "/status/503")
	get(10, addrPort(l.Pod("near").IP(), 8080), "/ok")
	get(2, addrPort(l.Pod("outside").IP(), 8080), "/ok")
	// A connection that stays open.
	echo, err := l.from.DialContext(t.Context(), "tcp", addrPort(l.Pod("far").IP(), 7000))
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	if _, err := fmt.Fprintln(echo, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(echo).ReadString('\n'); err != nil {
		t.Fatal(err)
	}

	// Both agents count the requests at about the time when the client gets the response.
	failing := figures{Meshed: "1/1", Success: 0.75, Failures: map[string]int{"status": 5}, Timed: true}
	well := figures{Meshed: "1/1", Success: 1, Timed: true}
	l.Eventually(patience, func() error {
		for _, tc := range []struct {
			node, name string
			want       figures
			args       []string
		}{
			{node2, "web-1", failing, []string{"pod", "-n", "default"}},
			{node1, "near", well, []string{"pod"}},
			{node1, "web", figures{Meshed: "-", Success: 0.75, Failures: map[string]int{"status": 5}, Timed: true}, []string{"svc"}},
			{node1, "client", failing, []string{"pod/client", "--to", "svc/web"}},
			{node1, "client", figures{Meshed: "1/1", Success: -1}, []string{"pod/client"}},
			{node2, "web-1", failing, []string{"pod", "--from", "pod/client"}},
			{node1, "default", figures{Meshed: "2/2", Success: 1, Timed: true}, []string{"ns"}},
			{node2, "default", figures{Meshed: "2/3", Success: 0.75, Failures: map[string]int{"status": 5}, Timed: true}, []string{"ns"}},
		} {
			rows := stat(t, l, tc.node, tc.args...)
			if diff := cmp.Diff(tc.want, figuresOf(rows[tc.name])); diff != "" {
				return fmt.Errorf("%s: agent stat %s, row %s (-want +got):\n%s", tc.node, strings.Join(tc.args, " "), tc.name, diff)
			}
		}
		for _, name := range []string{"far", "web-1"} { // the one of echo, and a pooled one of the requests
			if got := stat(t, l, node2, "pod", name)[name].Connections; got != 1 {
				return fmt.Errorf("%s has %d open connections, want 1", name, got)
			}
		}
		return nil
	})

	for node, want := range map[string]map[string]string{
		node1: {
			"client > near": "", "client > web-1": "", "client > far": "",
			"client > outside": "the server is not in the mesh",
		},
		node2: {"client > web-1": "", "client > far": ""},
	} {
		var rows []struct {
			Src, Dst string
			Why      string `json:"no_tls_reason"`
			Client   string `json:"client_id"`
			Server   string `json:"server_id"`
		}
		text := l.Agent(node, "edges", "pod", "-o", "json", "-t", "10m")
		if err := json.Unmarshal([]byte(text), &rows); err != nil {
			t.Fatalf("agent edges prints %q: %v", text, err)
		}
		got := map[string]string{}
		for _, r := range rows {
			got[r.Src+" > "+r.Dst] = r.Why
			if r.Why == "" && (r.Client != "default.default" || r.Server != "default.default") {
				t.Errorf("%s > %s is secured by %q and %q, want default.default", r.Src, r.Dst, r.Client, r.Server)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: agent edges pod (-want +got):\n%s%s%s", node, diff, text, l.Agent(node, "connections", "-o", "wide"))
		}
	}
}
