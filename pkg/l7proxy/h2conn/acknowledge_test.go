package h2conn_test

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// acked counts the system calls by which reads are acknowledged at once.
type acked struct {
	conn.Plain
	acks *atomic.Int64
}

func (c acked) QuickAck() { c.acks.Add(1) }

// TestAcknowledgements: frames that come whole, up to the end of a message, cost no system
// call to acknowledge them. Those of a message that comes in two pieces do: a peer with
// Nagle's algorithm would wait for the delayed acknowledgement. Of requests and responses.
func TestAcknowledgements(t *testing.T) {
	for _, role := range []http2.Role{http2.Server, http2.Client} {
		t.Run(fmt.Sprintf("of a %s", [...]string{"client", "server"}[role]), func(t *testing.T) {
			a, b := proxytest.Pair(t)
			var acks atomic.Int64
			c := h2conn.New(acked{conn.Plain{Conn: a}, &acks}, http2.Config{Role: role, MaxStreams: 100}, nil)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = c.Run(noOwner{}, nil)
				c.End()
			}()
			defer func() { b.Close(); <-ended }()

			var out bytes.Buffer
			fr, answers := xhttp2.NewFramer(&out, nil), xhttp2.NewFramer(nil, b)
			send := func(p []byte) {
				t.Helper()
				if _, err := b.Write(p); err != nil {
					t.Fatal(err)
				}
			}
			settle := func() { // what was sent before is handled when the answer is there
				t.Helper()
				out.Reset()
				_ = fr.WritePing(false, [8]byte{'a'})
				send(out.Bytes())
				for {
					f, err := answers.ReadFrame()
					if err != nil {
						t.Fatal(err)
					}
					if p, ok := f.(*xhttp2.PingFrame); ok && p.IsAck() {
						return
					}
				}
			}
			fields := []hpack.HeaderField{{Name: ":status", Value: "200"}}
			if role == http2.Server {
				out.WriteString(xhttp2.ClientPreface)
				fields = []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "x"}, {Name: ":path", Value: "/"}}
			} else {
				preface := make([]byte, len(xhttp2.ClientPreface))
				for n := 0; n < len(preface); {
					m, err := b.Read(preface[n:])
					if err != nil {
						t.Fatal(err)
					}
					n += m
				}
			}
			_ = fr.WriteSettings()
			send(bytes.Clone(out.Bytes()))
			settle()

			var block bytes.Buffer
			enc := hpack.NewEncoder(&block)
			next := uint32(1)
			message := func() (head, body []byte) {
				t.Helper()
				id := next
				next += 2
				if role == http2.Client {
					c.Lock()
					_, err := c.Engine.OpenStream([]http2.Field{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "x"}, {Name: ":path", Value: "/"}}, true)
					c.Unlock()
					if err != nil {
						t.Fatal(err)
					}
				}
				block.Reset()
				for _, f := range fields {
					_ = enc.WriteField(f)
				}
				out.Reset()
				_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
				head = bytes.Clone(out.Bytes())
				out.Reset()
				_ = fr.WriteData(id, true, []byte("body"))
				return head, bytes.Clone(out.Bytes())
			}
			for _, test := range []struct {
				name  string
				parts func(head, body []byte) [][]byte
				want  bool // something is acknowledged
			}{
				{"whole", func(head, body []byte) [][]byte { return [][]byte{append(head, body...)} }, false},
				{"whole again", func(head, body []byte) [][]byte { return [][]byte{append(head, body...)} }, false},
				{"head and body", func(head, body []byte) [][]byte { return [][]byte{head, body} }, true},
				{"a frame in two", func(head, body []byte) [][]byte {
					return [][]byte{append(head, body[:5]...), body[5:]}
				}, true},
			} {
				before := acks.Load()
				head, body := message()
				for i, part := range test.parts(head, body) {
					if i > 0 { // the part before was read by itself
						proxytest.Eventually(t, test.name+": the first part is acknowledged", func() bool { return acks.Load() > before })
					}
					send(part)
				}
				settle()
				if got := acks.Load() - before; got > 0 != test.want {
					t.Errorf("%s: %d acknowledged, want some: %v", test.name, got, test.want)
				}
			}
		})
	}
}
