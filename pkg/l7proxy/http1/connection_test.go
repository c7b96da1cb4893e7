package http1

import "testing"

// TestConnectionField: the Connection field for the next hop is the one that it would get
// from the sender without the proxy, as far as it is true for the next connection. It
// stays in its place.
func TestConnectionField(t *testing.T) {
	const (
		get10, get11 = "GET / HTTP/1.0\r\n", "GET / HTTP/1.1\r\nHost: a\r\n"
		ok10, ok11   = "HTTP/1.0 200 OK\r\n", "HTTP/1.1 200 OK\r\n"
		field        = "Connection: "
		keep, end    = field + "keep-alive\r\n", field + "close\r\n"
		asItCame     = "connection:Keep-Alive\r\n"
	)
	for _, test := range []struct {
		name, line, sent string // sent: the sender's Connection field
		life             Connection
		want             string // the field that the next hop gets
	}{
		{"a client that says nothing", get11, "", ConnectionDefault, ""},
		{"a client that keeps", get11, asItCame, ConnectionDefault, asItCame}, // an HTTP/1.0 server would close without it
		{"a client that closes, to a connection that stays", get11, end, ConnectionDefault, ""},
		{"a client that keeps, to a connection that ends", get11, keep, ConnectionClose, end},
		{"an old client that says nothing, to a connection that stays", get10, "", ConnectionKeepAlive, "at the end"},
		{"an old client that keeps", get10, asItCame, ConnectionKeepAlive, asItCame},
		{"close and keep-alive", get11, field + "keep-alive, close\r\n", ConnectionDefault, ""},
		{"keep-alive and others", get11, field + "X, keep-alive\r\n", ConnectionDefault, keep},

		{"a server that says nothing", ok11, "", ConnectionDefault, ""},
		{"a server that keeps", ok11, asItCame, ConnectionDefault, asItCame},
		{"a server that closes, to a connection that stays", ok11, end, ConnectionDefault, keep},
		{"a server that closes", ok11, end, ConnectionClose, end},
		{"a server that keeps, to a connection that ends", ok11, keep, ConnectionClose, end},
		{"a server that says nothing, to a connection that ends", ok11, "", ConnectionClose, "at the end"},
		{"a server that says nothing to an old client, which keeps", ok11, "", ConnectionKeepAlive, "at the end"},
		{"a server that keeps to an old client, which keeps", ok11, asItCame, ConnectionKeepAlive, asItCame},

		{"an old server that says nothing", ok10, "", ConnectionClose, ""},
		{"an old server that closes", ok10, end, ConnectionClose, end},
		{"an old server that keeps", ok10, asItCame, ConnectionDefault, asItCame},
		{"an old server that keeps, to an old client, which keeps", ok10, asItCame, ConnectionKeepAlive, asItCame},
		{"an old server that keeps, to a connection that ends", ok10, keep, ConnectionClose, ""},
		{"an old server that says nothing, to a connection that stays", ok10, "", ConnectionDefault, ""},

		{"an interim response", "HTTP/1.1 103 E\r\n", end, ConnectionClose, ""},
		{"two fields", ok11, end + "C: 3\r\n" + field + "X\r\n", ConnectionDefault, keep + "C: 3\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			in, before, after := []byte(test.line+"A: 1\r\n"+test.sent+"B: 2\r\n\r\n"), "A: 1\r\n", "B: 2\r\n"
			var h Head
			if n, err := h.parse(in, test.line[0] == 'H', 0); n != len(in) || err != nil {
				t.Fatalf("parse(%q) = %d, %v", in, n, err)
			}
			want := test.line + before + test.want + after
			if test.want == "at the end" {
				want = test.line + before + after + keep
				if test.life == ConnectionClose {
					want = test.line + before + after + end
				}
			}
			for _, edits := range []Edits{{Connection: test.life}, {Connection: test.life, Add: []Field{{Name: "D", Value: "4"}}}} {
				want := want
				if len(edits.Add) > 0 {
					want += "D: 4\r\n"
				}
				if got := string(appendHead(nil, &h.message, &edits)); got != want+"\r\n" {
					t.Errorf("%q is forwarded as\n%q, want\n%q", in, got, want+"\r\n")
				}
			}
		})
	}
	t.Run("in its place through two proxies", func(t *testing.T) {
		const in = ok11 + "A: 1\r\n" + end + "Content-Length: 0\r\n\r\n"
		h, _ := response(t, in, 0)
		between := AppendResponseHead(nil, h, &Edits{}) // on a connection that persists
		h, _ = response(t, string(between), 0)
		if got := string(AppendResponseHead(nil, h, &Edits{Connection: ConnectionClose})); got != in || !h.KeepAlive() {
			t.Errorf("forwarded as %q, then as %q, want %q", between, got, in)
		}
	})
}
