package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// net/http is the oracle: it must accept every message that the engine accepts, with the
// same method, target, authority, framing and content, and leave the same bytes. The
// intended exceptions:
//   - one empty line before a request: RFC 9112 §2.2 says to ignore it;
//   - targets that package url cannot parse ("%zz"): the engine forwards them unchanged;
//   - a percent-encoded host: net/http decodes it;
//   - a Trailer field that announces a framing field: net/http refuses the announcement,
//     the engine refuses the trailer itself;
//   - responses with errors that are mended (framing fields without a meaning, white space
//     before a colon, folded lines, LF alone): net/http reads the message as it is forwarded.
func oracleException(h *Head, err error) bool {
	var badURL *url.Error
	return errors.As(err, &badURL) ||
		h.Get("Trailer") != nil && strings.Contains(err.Error(), "bad trailer key")
}

// compareBody passes in to our Body and compares the result with the oracle's.
func compareBody(t *testing.T, body Body, in []byte, theirs io.Reader, rest *bufio.Reader) {
	t.Helper()
	got := feed(body, in, one)
	if body.Kind() == BodyUntilClose && got.Err == "" {
		got.Done = true
	}
	if !got.Done {
		return // refused or incomplete: nothing was accepted
	}
	content, err := io.ReadAll(theirs)
	if err != nil {
		t.Fatalf("we accept the body, net/http: %v", err)
	}
	if string(content) != got.Payload {
		t.Fatalf("content %q, net/http: %q", got.Payload, content)
	}
	if left, _ := io.ReadAll(rest); !bytes.Equal(left, in[got.Consumed:]) {
		t.Fatalf("%q is left, for net/http %q", in[got.Consumed:], left)
	}
}

func oracleReader(in []byte) *bufio.Reader {
	return bufio.NewReaderSize(bytes.NewReader(in), len(in)+MaxHead)
}

var headSeeds = []string{
	"GET /a?b HTTP/1.1\r\nHost: a:80\r\n\r\nGET / HTTP/1.1\r\n\r\n",
	"\r\nPOST http://b/c HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabcd",
	chunkedHead + "3;x\r\nabc\r\n0\r\nA: b\r\n\r\nnext",
	"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\nx",
	"OPTIONS * HTTP/1.0\r\nConnection: keep-alive, x-y\r\nX-Y: z\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, te\r\nUpgrade: websocket\r\nTE: trailers\r\nTrailer: a\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/grpc\r\n\r\nabc",
	"HTTP/1.1 204\r\nUpgrade: h2c\r\n\r\nabc", "HTTP/1.0 200 OK\r\n\r\nabc",
	"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\nabc",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length \t: 3\r\nX : y\r\n\r\nabcd",
	"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nabcde", "HTTP/1.1 103 E\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n",
	"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "HTTP/1.9 200 OK\r\nContent-Length: 1\r\n\r\na",
	"GET / HTTP/1.1\r\nHost: fd00::1:80\r\n\r\n",
	typicalRequest, typicalResponse,
}

func FuzzRequest(f *testing.F) {
	for _, in := range headSeeds {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) { checkRequest(t, in) })
}

// checkRequest compares one request with the oracle, if we accept it.
func checkRequest(t *testing.T, in []byte) (accepted bool) {
	t.Helper()
	var h Head
	n, err := ParseRequest(in, &h)
	if n == 0 || err != nil {
		return false
	}
	checkPieces(t, in[:n], &h, 0)
	reader := oracleReader(in[h.start:])
	r, err := http.ReadRequest(reader)
	if err != nil {
		if !oracleException(&h, err) {
			t.Fatalf("we accept %q, net/http: %v", in[:n], err)
		}
		return true
	}
	authority := string(h.Authority())
	if r.Method != string(h.Method()) || r.RequestURI != string(h.Target()) || r.ProtoMinor != h.Minor() ||
		r.Host != authority && !strings.Contains(authority, "%") {
		t.Fatalf("%q: net/http sees %q %q %q %q", in[:n], r.Method, r.RequestURI, r.Host, r.Proto)
	}
	if r.Close == h.KeepAlive() {
		t.Fatalf("%q: keep-alive %v, net/http close %v", in[:n], h.KeepAlive(), r.Close)
	}
	compareBody(t, h.Body(), in[n:], r.Body, reader)
	checkForward(t, &h, 0)
	return true
}

func FuzzResponse(f *testing.F) {
	for _, in := range headSeeds {
		f.Add([]byte(in), uint8(0))
		f.Add([]byte(in), uint8(KindHEAD))
		f.Add([]byte(in), uint8(KindUpgrade))
	}
	f.Fuzz(func(t *testing.T, in []byte, kind uint8) { checkResponse(t, in, Kind(kind)) })
}

// checkResponse compares one response with the oracle, if we accept it.
func checkResponse(t *testing.T, in []byte, asked Kind) (accepted bool) {
	t.Helper()
	var h Head
	asked &^= KindCONNECT // net/http does not know tunnels
	n, err := ParseResponse(in, &h, asked)
	if n == 0 || err != nil {
		return false
	}
	checkPieces(t, in[:n], &h, asked)
	theirs := in
	if h.misframed || h.loose || slices.ContainsFunc(h.fields, func(f field) bool { return f.spaced }) { // corrected when it is forwarded
		theirs = append(appendHead(nil, &h.message, &Edits{}), in[n:]...)
	}
	reader, method := oracleReader(theirs), "GET"
	if asked&KindHEAD != 0 {
		method = "HEAD"
	}
	r, err := http.ReadResponse(reader, &http.Request{Method: method})
	if err != nil {
		if !oracleException(&h, err) {
			t.Fatalf("we accept %q, net/http: %v", in[:n], err)
		}
		return true
	}
	if r.StatusCode != h.Status() || r.ProtoMinor != h.Minor() {
		t.Fatalf("%q: net/http sees %v %v", in[:n], r.Proto, r.StatusCode)
	}
	if body := h.Body(); body.Kind() != BodyTunnel {
		compareBody(t, body, in[n:], r.Body, reader)
	}
	checkForward(t, &h, asked)
	return true
}

// TestOracleCombinations builds messages from valid, unusual and hostile parts: a mutating
// fuzzer seldom finds two of them in one message.
func TestOracleCombinations(t *testing.T) {
	requestLines := []string{
		"GET / HTTP/1.1", "POST /a?b HTTP/1.1", "HEAD http://b:1/x HTTP/1.1", "PUT /%zz HTTP/1.1", "POST / HTTP/1.0",
		"OPTIONS * HTTP/1.1", "CONNECT c:1 HTTP/1.1", "GET //a//b/../c HTTP/1.1", "\r\nGET / HTTP/1.1", "GET ?a HTTP/1.1",
		"GET http://b?c HTTP/1.0", "GET /\x80 HTTP/1.1", "GET http://[::1%25a]:8/ HTTP/1.1",
	}
	statusLines := []string{
		"HTTP/1.1 200 OK", "HTTP/1.1 204 No", "HTTP/1.0 200 OK", "HTTP/1.1 304", "HTTP/1.1 100 Continue", "HTTP/1.1 101 S", "HTTP/1.1 999 ",
	}
	fields := []string{
		"Host: a", "Host: a:1", "host:", "Host: a,b", "Host: %41", "Content-Length: 3", "Content-Length: 4", "content-length:0",
		"Content-Length: 3, 3", "Content-Length: +3", "Content-Length: 003", "Content-Length:\t3\t", "Transfer-Encoding: chunked",
		"transfer-encoding: CHUNKED", "Transfer-Encoding: chunked, identity", "Transfer-Encoding:\x0bchunked", "Transfer-Encoding : chunked",
		"Connection: close", "Connection: keep-alive", "Connection: upgrade, te, X", "Connection: host,, content-length", "Upgrade: ws",
		"Upgrade: h2c", "TE: trailers", "X: 1", "X:\r\n 2", "X: a\rb", "X: a\nContent-Length: 9", "Trailer: X", "Expect: 100-continue", "",
	}
	bodies := []string{
		"", "abcdefg", "3\r\nabc\r\n0\r\n\r\nrest", "03;a=b\r\nabc\r\n0\r\nX: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n", "3 \r\nabc\r\n0\r\n\r\n",
		"3\nabc\n0\n\n", "3\r\nabcd\r\n0\r\n\r\n", "0\r\nHost: x\r\n\r\n", "fffffffffffffffff\r\n", "1;\n\r\na\r\n0\r\n\r\n", "0\r\n\r\n0\r\n\r\n",
	}
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	accepted := [2]int{}
	for range 60_000 {
		isResponse := random.IntN(3) == 0
		in := pick(requestLines)
		if isResponse {
			in = pick(statusLines)
		}
		for range random.IntN(5) {
			in += "\r\n" + pick(fields)
		}
		in += "\r\n\r\n" + pick(bodies)
		switch {
		case isResponse && checkResponse(t, []byte(in), Kind(random.IntN(256))):
			accepted[1]++
		case !isResponse && checkRequest(t, []byte(in)):
			accepted[0]++
		}
	}
	if accepted[0] < 1000 || accepted[1] < 1000 {
		t.Errorf("only %d requests and %d responses were accepted: the test compares too little", accepted[0], accepted[1])
	}
}

// checkPieces: a head that arrives in pieces has the same result.
func checkPieces(t *testing.T, in []byte, whole *Head, asked Kind) {
	t.Helper()
	var h Head
	for size := 0; size <= len(in); size = min(size+1+len(in)/32, max(len(in), size+1)) {
		n, err := h.parse(in[:size], whole.response, asked)
		if err != nil || (n == len(in)) != (size == len(in)) {
			t.Fatalf("%q: first %d bytes: %d, %v", in, size, n, err)
		}
	}
	if look(&h) != look(whole) {
		t.Fatalf("%q: in pieces %+v, whole %+v", in, look(&h), look(whole))
	}
}

// checkForward: the engine reads a forwarded head as it read the original, and forwards it
// unchanged.
func checkForward(t *testing.T, h *Head, asked Kind) {
	t.Helper()
	if len(h.buf) > MaxHead-100 || len(h.fields) > MaxFields-2 {
		return // the added fields could exceed the limit
	}
	out := appendHead(nil, &h.message, &Edits{})
	var again Head
	if n, err := again.parse(out, h.response, asked); err != nil || n != len(out) {
		t.Fatalf("%q is forwarded as %q: %d, %v", h.buf, out, n, err)
	}
	a, b := look(h), look(&again)
	a.KeepAlive = b.KeepAlive // concerns one connection
	if a != b || h.Status() != again.Status() {
		t.Fatalf("%q is forwarded as %q: %+v, was %+v", h.buf, out, b, a)
	}
	if twice := appendHead(nil, &again.message, &Edits{}); !bytes.Equal(out, twice) {
		t.Fatalf("%q is forwarded once as %q, twice as %q", h.buf, out, twice)
	}
}
