package script

import (
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCheck(t *testing.T) {
	for _, tc := range []struct{ script, want string }{
		{`send $get "x"*3 #10; recv head; end`, ""},
		{"loop { recv head\n send $ok }\n--\nrecv 5", ""},
		{`sing "la"`, `no step "sing"`},
		{`send $nothing`, "no constant"},
		{`repeat 3 { send "x"`, "without }"},
		{`send "x" }`, "a } too many"},
		{`send "x`, "invalid syntax"},
		{`send #x`, "wants a number"},
		{`send { send "x" }`, "braces"},
		{`"x"`, "a step begins with"},
	} {
		got := ""
		if err := Check(tc.script, true); err != nil {
			got = err.Error()
		}
		if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.script, got, tc.want)
		}
	}
}

// playBoth drives a player of both ends by hand, on loopback.
func playBoth(t *testing.T, client, server string) (clientNotes, serverNotes []string) {
	t.Helper()
	orders, in := io.Pipe()
	out, events := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Play(orders, events) }()
	enc, dec := json.NewEncoder(in), json.NewDecoder(out)
	order := func(o Order) {
		t.Helper()
		if err := enc.Encode(o); err != nil {
			t.Fatal(err)
		}
	}
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := probe.Addr().(*net.TCPAddr)
	probe.Close()
	const ofServer, ofClient = 1, 2
	order(Order{Job: ofServer, Role: "server", Port: addr.Port, Script: server, Limit: 2 * time.Second})
	for open := 2; open > 0; {
		var e Event
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Error != "":
			t.Fatal(e.Error)
		case e.Listening:
			order(Order{Job: ofClient, Role: "client", Addr: addr.String(), Script: client, Limit: 2 * time.Second})
		case e.Tell != "":
			order(Order{Job: ofServer + ofClient - e.Job, Tell: e.Tell})
		case e.Through:
			order(Order{Job: ofServer, Finish: true})
		case e.Done:
			open--
			for _, n := range e.Notes {
				if e.Job == ofClient {
					clientNotes = append(clientNotes, n.Text)
				} else {
					serverNotes = append(serverNotes, n.Text)
				}
			}
			if e.Job == ofServer {
				order(Order{Job: ofClient, Finish: true})
			}
		}
	}
	in.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return clientNotes, serverNotes
}

// TestEnds: each way in which a stream ends is told from the others, in time.
func TestEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		client, server         string
		wantClient, wantServer []string
	}{
		"fin": {
			`send "a"; recv 1; shut; end`, `recv 1; send "b"; end; close`,
			[]string{`recv "b"`, `end "", fin`},
			[]string{`recv "a"`, `end "", fin`},
		},
		"reset": {
			`send "a"; end`, `recv 1; send "b"; reset`,
			[]string{`end "b", reset`},
			[]string{`recv "a"`},
		},
		"too little": {
			`send "abc"; close`, `recv 4`,
			nil,
			[]string{`recv "abc", then fin`},
		},
		"marks": {
			`send "a"; await read; send "b"`, `recv 1; quiet 20ms; tell read; recv 1`,
			nil,
			[]string{`recv "a"`, `recv "b"`},
		},
		"urgent": {
			`send "a"; urgent "!"; send "b"`, `recv oob; recv 2`,
			nil,
			[]string{`recv oob "!"`, `recv "ab"`},
		},
		"loop": {
			`repeat 3 { send $get; recv "ok" }; close`, `loop { recv head; send $ok }`,
			[]string{shownOK, shownOK, shownOK},
			[]string{shownGet, shownGet, shownGet},
		},
		"http2": {
			`h2; open a POST /a; data a "hello" end; head a; body a; open b GET /b end; body b; goaway; close`,
			`h2; accept a; body a; answer a 200 k=v; data a "ok"; trailers a sum=1; accept b; rst b CANCEL; ended`,
			[]string{`a: head 200 k="v"`, `a: body "ok", trailers sum="1"`, `b: body "", rst CANCEL`},
			[]string{`a: request POST /a`, `a: body "hello", end`, `b: request GET /b`, "ended: goaway NO_ERROR, fin"},
		},
		"http2, much": {
			`h2 window=1000; many 30 GET /; many 3 GET /hang reset=50ms; open a GET /hang end; body a`, `h2 streams=2; serve`,
			[]string{"many: 30 × 200 end", "many: 3 × reset", `a: body "", time-out`},
			nil,
		},
		"scripts by connection": {
			`send "a"; recv 1; dial b; send "b"; recv 1; use first; close`, "recv 1; send \"1\"\n--\nrecv 1; send \"2\"",
			[]string{`recv "1"`, `b: recv "2"`},
			[]string{`recv "a"`, `recv "b"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := playBoth(t, tc.client, tc.server)
			if d := cmp.Diff([][]string{tc.wantClient, tc.wantServer}, [][]string{client, server}); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

const (
	shownGet = `recv "GET / HTTP/1.1\r\nHost: x\r\n\r\n"`
	shownOK  = `recv "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"`
)
