package detect

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clientHello returns the first flight of crypto/tls with this configuration.
func clientHelloOf(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	config.InsecureSkipVerify = true
	ctx, cancel := context.WithCancel(t.Context())
	go tls.Client(client, config).HandshakeContext(ctx)
	defer cancel()
	_ = server.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, MaxBytes)
	n, err := server.Read(buf)
	if err != nil {
		t.Fatalf("read the ClientHello: %v", err)
	}
	return buf[:n]
}

// fragment splits the one record in hello into records of size bytes.
func fragment(hello []byte, size int) []byte {
	var out []byte
	for body := hello[recordHeader:]; len(body) > 0; {
		n := min(size, len(body))
		out = append(out, hello[0], hello[1], hello[2], byte(n>>8), byte(n))
		out = append(out, body[:n]...)
		body = body[n:]
	}
	return out
}

func TestDetect(t *testing.T) {
	more := Result{NeedMore: true}
	opaque, http1 := Result{Protocol: Opaque}, Result{Protocol: HTTP1}
	for _, test := range []struct {
		name, in string
		want     Result
	}{
		{"nothing", "", more},
		{"part of a method", "GE", more},
		{"part of a target", "GET /index", more},
		{"request line without its end", "GET / HTTP/1.1\r", more},
		{"request line", "GET / HTTP/1.1\r\n", http1},
		{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", http1},
		{"unusual method", "M-SEARCH * HTTP/1.1\r\n", http1},
		{"longest method", strings.Repeat("M", MaxMethod) + " / HTTP/1.1\r\n", http1},
		{"method too long", strings.Repeat("M", MaxMethod+1), opaque},
		{"bare LF is for the parser to refuse", "GET / HTTP/1.1\n", http1},
		{"space in the target is for the parser to refuse", "GET /a b HTTP/1.1\r\n", http1},
		{"control byte in the target is for the parser to refuse", "GET /\x01 HTTP/1.1\r\n", http1},
		{"space after the version is for the parser to refuse", "GET / HTTP/1.1 \r\n", http1},
		{"HTTP/0.9", "GET /\r\n", opaque},
		{"HTTP/3 on a line", "GET / HTTP/3.0\r\n", opaque},
		{"lower-case version", "GET / http/1.1\r\n", opaque},
		{"long request line", "GET /" + strings.Repeat("a", 8<<10) + " HTTP/1.1\r\n", http1},
		{"request line too long is for the parser to refuse", "GET /" + strings.Repeat("a", MaxRequestLine), http1},
		{"another protocol's long line", "9999 <34>1 " + strings.Repeat("a", MaxRequestLine), opaque},
		{"redis", "*1\r\n$4\r\nPING\r\n", opaque},
		{"redis inline", "PING\r\n", opaque},
		{"memcached text", "set key 0 0 1\r\na\r\n", opaque},
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", opaque},
		{"AMQP", "AMQP\x00\x00\x09\x01", opaque},
		{"postgres", "\x00\x00\x00\x08\x04\xd2\x16\x2f", opaque},
		{"one control byte", "\x00", opaque},
		{"empty line first", "\r\nGET / HTTP/1.1\r\n", http1},
		{"empty lines first are for the parser to refuse", "\n\r\n\r\nGET / HTTP/1.1\r\n", http1},
		{"empty lines alone", "\r\n\r\n", more},
		{"more empty lines than anybody needs", strings.Repeat("\n", maxEmptyLines), http1},
		{"PROXY protocol, version 2", "\r\n\r\n\x00\r\nQUIT\n", opaque},
		{"PROXY protocol, version 1", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n", opaque},
		{"empty line before another protocol", "\r\nhelp\r\n", opaque},
		{"preface", Preface, Result{Protocol: HTTP2}},
		{"preface and settings", Preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00", Result{Protocol: HTTP2}},
		{"part of the preface", Preface[:14], more},
		{"all but the last byte of the preface", Preface[:23], more},
		{"broken preface", Preface[:16] + "XX", opaque},
		{"method that starts like the preface", "PRINT / HTTP/1.1\r\n", http1},
		{"TLS type alone", "\x16", more},
		{"TLS type, other version", "\x16\x04", opaque},
		{"TLS type, other minor version", "\x16\x03\x09", opaque},
		{"TLS record without length", "\x16\x03\x01\x00\x00", opaque},
		{"TLS record over the limit", "\x16\x03\x01\x40\x01", opaque},
		{"TLS server hello", "\x16\x03\x01\x00\x10\x02", opaque},
		{"TLS hello too short", "\x16\x03\x01\x00\x08\x01\x00\x00\x04abcd", opaque},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Detect([]byte(test.in))); diff != "" {
				t.Errorf("Detect(%q) (-want +got):\n%s", test.in, diff)
			}
		})
	}
}

func TestClientHello(t *testing.T) {
	for _, test := range []struct {
		name   string
		config *tls.Config
		want   Result
	}{
		{"name", &tls.Config{ServerName: "voting.emoji.svc"}, Result{Protocol: TLS, SNI: "voting.emoji.svc"}},
		{"no name", &tls.Config{}, Result{Protocol: TLS}},
		{"foreign ALPN", &tls.Config{ServerName: "a.b", NextProtos: []string{"h2", "http/1.1"}}, Result{Protocol: TLS, SNI: "a.b"}},
		{"mesh ALPN", &tls.Config{NextProtos: []string{"h2", "underlane/tcp"}}, Result{Protocol: TLS, OffersMesh: true}},
		{"TLS 1.2", &tls.Config{ServerName: "old", MaxVersion: tls.VersionTLS12}, Result{Protocol: TLS, SNI: "old"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			hello := clientHelloOf(t, test.config)
			for size := range hello {
				if got := Detect(hello[:size]); got != needMore {
					t.Fatalf("first %d of %d bytes: got %+v, want more asked for", size, len(hello), got)
				}
			}
			for _, in := range [][]byte{hello, append(hello[:len(hello):len(hello)], "more"...), fragment(hello, 100), fragment(hello, 1)} {
				if diff := cmp.Diff(test.want, Detect(in)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
			spoilt := append([]byte(nil), hello...)
			spoilt[recordHeader+handshakeHeader+2+32] = 255 // a session id longer than allowed
			if got := Detect(spoilt); got.OffersMesh || got.SNI != "" {
				t.Errorf("a broken hello: got %+v, want no SNI and not Underlane", got)
			}
		})
	}
}

// helloWith returns a ClientHello with these bytes for its extensions.
func helloWith(extensions string) []byte {
	body := "\x03\x03" + strings.Repeat("r", 32) + "\x00" + "\x00\x02\x13\x01" + "\x01\x00" +
		string([]byte{byte(len(extensions) >> 8), byte(len(extensions))}) + extensions
	size := len(body)
	return []byte("\x16\x03\x01" + string([]byte{byte((size + 4) >> 8), byte(size + 4)}) +
		"\x01\x00" + string([]byte{byte(size >> 8), byte(size)}) + body)
}

func TestExtensions(t *testing.T) {
	opaque, plain := Result{Protocol: Opaque}, Result{Protocol: TLS}
	for _, test := range []struct {
		name, in string
		want     Result
	}{
		{"name", "\x00\x00\x00\x08\x00\x06\x00\x00\x03a.b", Result{Protocol: TLS, SNI: "a.b"}},
		{"name with a control byte", "\x00\x00\x00\x08\x00\x06\x00\x00\x03a\x1bb", plain},
		{"empty name", "\x00\x00\x00\x05\x00\x03\x00\x00\x00", plain},
		{"name longer than its list", "\x00\x00\x00\x08\x00\x06\x00\x00\x04a.b", plain},
		{"other kind of name first", "\x00\x00\x00\x0c\x00\x0a\x01\x00\x01x\x00\x00\x03a.b", Result{Protocol: TLS, SNI: "a.b"}},
		{"ALPN of the mesh second", "\x00\x10\x00\x11\x00\x0f\x02h2\x0bunderlane/x", Result{Protocol: TLS, OffersMesh: true}},
		{"ALPN cut short", "\x00\x10\x00\x05\x00\x0f\x0bun", plain},
		{"extension longer than the hello", "\x00\x00\x00\x09\x00\x06\x00\x00\x03a.b", opaque},
		{"half an extension", "\x00\x10\x00", opaque},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Detect(helloWith(test.in))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A hello that announces more than MaxBytes is decided once MaxBytes have arrived.
func TestHugeClientHello(t *testing.T) {
	huge := make([]byte, MaxBytes)
	copy(huge, "\x16\x03\x01\x40\x00\x01\x00\xff\xff")
	if got := Detect(huge[:MaxBytes-1]); got != needMore {
		t.Errorf("one byte less: got %+v, want %+v", got, needMore)
	}
	if got := Detect(huge); got != (Result{Protocol: TLS}) {
		t.Errorf("got %+v, want TLS", got)
	}
}

func TestDetectDoesNotAllocate(t *testing.T) {
	hello := clientHelloOf(t, &tls.Config{NextProtos: []string{"underlane/h2"}})
	for _, in := range [][]byte{[]byte("POST /a/b HTTP/1.1\r\nHost: a\r\n\r\n"), []byte(Preface), []byte("\x00\x01"), hello} {
		if n := testing.AllocsPerRun(100, func() { Detect(in) }); n != 0 {
			t.Errorf("Detect(%.20q): %v allocations, want 0", in, n)
		}
	}
}

// FuzzDetect: a decision does not change with more bytes; MaxBytes always give a
// decision; the other fields are zero while NeedMore is true.
func FuzzDetect(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte(Preface))
	hello := clientHelloOf(f, &tls.Config{ServerName: "a.b", NextProtos: []string{"underlane/h1"}})
	f.Add(hello)
	f.Add(fragment(hello, 64))
	f.Add([]byte("\x16\x03\x01\x40\x00\x01\x00\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		decided := Result{}
		for n := 0; n <= len(in); n += 1 + len(in)/64 {
			got := Detect(in[:n])
			if got.NeedMore && Likely(in[:n]) == TLS && in[0] != recordHandshake {
				t.Fatalf("%d bytes: likely TLS", n)
			}
			switch {
			case got.NeedMore && (got != needMore || n >= MaxBytes):
				t.Fatalf("%d bytes: %+v", n, got)
			case got.Protocol == Unknown && !got.NeedMore:
				t.Fatalf("%d bytes: undecided and not asking for more", n)
			case decided.Protocol != Unknown && got != decided:
				t.Fatalf("%d bytes: %+v, before it was %+v", n, got, decided)
			}
			decided = got
		}
	})
}

func BenchmarkDetectHTTP1(b *testing.B) {
	in := []byte("POST /api/vote?choice=:doughnut: HTTP/1.1\r\nHost: web.emoji\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		Detect(in)
	}
}

func TestHTTP2Server(t *testing.T) {
	for text, want := range map[string]bool{
		"\x00\x00\x00\x04\x00\x00\x00\x00\x00":                         true, // grpc-go's empty SETTINGS
		"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64": true,
		"\x00\x00\x00\x04\x01\x00\x00\x00\x00":                         false, // an acknowledgement
		"\x00\x00\x05\x04\x00\x00\x00\x00\x00":                         false,
		"\x00\x00\x06\x04\x00\x00\x00\x00\x01":                         false,
		"\x00\x00\x06\x04\x00\x00":                                     false,
		"J\x00\x00\x00\x0a8.0.31\x00":                                  false, // MySQL
		"220 ready\r\n":                                                false,
		"":                                                             false,
	} {
		if got := HTTP2Server([]byte(text)); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}
