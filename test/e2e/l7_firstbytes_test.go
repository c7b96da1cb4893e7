package e2e

import (
	"bufio"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"
)

// TestFirstBytes: a server that has to answer a client's first bytes before the
// client says more gets them at once, whatever they look like, and the client its
// answer, as without a mesh. From outside the mesh it is the server's agent that
// looks at them.
func TestFirstBytes(t *testing.T) {
	words := []struct{ name, text string }{
		{"a word", "ping"},
		{"ZooKeeper", "ruok"},
		{"JDWP", "JDWP-Handshake"},
		{"git", "0032git-upload-pack /x.git\x00host=h\x00"},
		{"syslog", "<34>1 2003-10-11T22:14:15.003Z mymachine su - ID47 - msg"},
		{"octet-counted syslog", "64 <34>1 2003-10-11T22:14:15.003Z mymachine su - ID47 - message1"},
		{"Hazelcast", "HZC"},
		{"what may be a method", "G"},
		{"a request line without its end", "GET /a"},
		{"half a preface of HTTP/2", "PRI * HTTP/2.0\r\n"},
		{"a record of TLS", "\x16\x03\x01\x00\x05hello"},
		{"half a ClientHello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},
	}
	const soon = 4 * time.Second // waiting for more took ten; a busy machine or a lost SYN takes one
	bareAndMeshed(t, func(t *testing.T, l *l7Lab) {
		outside := dialFrom(t, l.Lab, "outside")
		for _, w := range []struct {
			name   string
			from   *podDialer
			server string
		}{
			{"same node", l.from, "near"},
			{"cross-node", l.from, "far"},
			{"from outside the mesh", outside, "near"},
		} {
			t.Run(w.name, func(t *testing.T) {
				echo, web := addrPort(l.Pod(w.server).IP(), 7000), addrPort(l.Pod(w.server).IP(), 8080)
				for _, word := range words {
					for _, nth := range []string{"first", "second"} {
						if w.from == outside && word.name == "half a ClientHello" {
							continue // it may be an agent's, and is waited for
						}
						began := time.Now()
						c := w.from.raw(t, echo)
						c.send(word.text)
						c.expect(word.text)
						took := time.Since(began)
						if t.Logf("%s, %s connection: %s", word.name, nth, took); took > soon {
							t.Errorf("%s, %s connection: answered after %s", word.name, nth, took)
						}
						c.send(" and more\r\n")
						c.expect(" and more\r\n")
						c.Close()
					}
				}
				for name, pause := range map[string]time.Duration{"quick": 0, "slow": 10 * time.Millisecond} {
					c := w.from.raw(t, web)
					for _, b := range "GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" {
						c.send(string(b))
						time.Sleep(pause)
					}
					resp, err := http.ReadResponse(bufio.NewReader(c), nil)
					if err != nil || resp.StatusCode != 200 {
						t.Errorf("a request byte by byte, %s: %v, %v", name, resp, err)
						continue
					}
					if _, err := io.Copy(io.Discard, resp.Body); err != nil {
						t.Errorf("a request byte by byte, %s: %v", name, err)
					}
				}
			})
		}
	}, podSpec{Name: "outside", Node: node2, Command: []string{"labtest", "wait"}})
}

// TestSlowRequestsAreLimited: what a rate limit holds back is not let through for
// coming in pieces, on whatever side of the network it is counted.
func TestSlowRequestsAreLimited(t *testing.T) {
	t.Parallel()
	limited := func(name, node string) podSpec {
		p := serverPod(name, node)
		p.Annotations = map[string]string{"underlane.io/rate-limit": "1/h burst=3"}
		return p
	}
	l := upL7(t, limited("limited-near", node1), limited("limited-far", node2), limited("limited-out", node1),
		podSpec{Name: "outside", Node: node2, Command: []string{"labtest", "wait"}})
	waitEnrolled(t, l.Lab, "default/limited-near", "default/limited-far", "default/limited-out")
	for _, w := range []struct {
		name   string
		from   *podDialer
		server string
	}{
		{"same node", l.from, "limited-near"},
		{"cross-node", l.from, "limited-far"},
		{"from outside the mesh", dialFrom(t, l.Lab, "outside"), "limited-out"},
	} {
		t.Run(w.name, func(t *testing.T) {
			c := w.from.raw(t, addrPort(l.Pod(w.server).IP(), 8080))
			c.send("GE")
			time.Sleep(200 * time.Millisecond)
			c.send("T / HTTP/1.1\r\nHost: x\r\n\r\n")
			// A client that is slow to begin has a connection made ahead, which counts as
			// one of three requests.
			for n, want := range [][]int{{200}, {200}, {200, 429}, {429}} {
				if n > 0 {
					c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				}
				if resp, body := c.response("GET"); !slices.Contains(want, resp.StatusCode) {
					t.Errorf("request %d: got %d %q, want one of %d", n, resp.StatusCode, body, want)
				}
			}
			// An opaque connection counts as a request.
			c = w.from.raw(t, addrPort(l.Pod(w.server).IP(), 7000))
			c.send("PURGE /a")
			if got := c.rest(); got != "" {
				t.Errorf("a connection over the limit got %q", got)
			}
		})
	}
}
