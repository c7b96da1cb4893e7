package http1

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	chunkedHead = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	lengthHead  = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
)

// outcome is what a body says about the bytes that it was given.
type outcome struct {
	Consumed int
	Payload  string
	Done     bool
	Err      string
}

// feed passes in to the body in pieces. next returns the size of each piece.
func feed(b Body, in []byte, next func() int) outcome {
	var o outcome
	for o.Consumed < len(in) && !b.Done() {
		piece := in[o.Consumed:min(len(in), o.Consumed+next())]
		before := b.Payload()
		n, _, err := b.Next(piece)
		if len(piece) == 1 && b.Payload() > before {
			o.Payload += string(piece)
		}
		o.Consumed += n
		if err != nil {
			o.Err = err.Error()
			break
		}
	}
	o.Done = b.Done()
	return o
}

func one() int { return 1 }

func TestBody(t *testing.T) {
	for _, test := range []struct {
		name, head, in string
		want           outcome
	}{
		{"none", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "next", outcome{Done: true}},
		{"length", lengthHead, "12345next", outcome{Consumed: 5, Payload: "12345", Done: true}},
		{"part of a length", lengthHead, "123", outcome{Consumed: 3, Payload: "123"}},
		{"chunks", chunkedHead, "3\r\nabc\r\n0002\r\nde\r\n0\r\n\r\nnext", outcome{Consumed: 23, Payload: "abcde", Done: true}},
		{"upper and lower case size", chunkedHead, "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", outcome{Consumed: 35, Payload: "01234567890123456789", Done: true}},
		{"extension", chunkedHead, "1;a=\"b c\";d\r\nx\r\n0;e\r\n\r\n", outcome{Consumed: 23, Payload: "x", Done: true}},
		{"trailers", chunkedHead, "1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\nnext", outcome{Consumed: 21, Payload: "x", Done: true}},
		{"several noughts", chunkedHead, "000\r\n\r\n", outcome{Consumed: 7, Done: true}},
		{"largest chunk", chunkedHead, "7fffffffffffffff\r\nx", outcome{Consumed: 19, Payload: "x"}},
		{"unfinished", chunkedHead, "5\r\nab", outcome{Consumed: 5, Payload: "ab"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, _ := request(t, test.head)
			if diff := cmp.Diff(test.want, feed(h.Body(), []byte(test.in), one)); diff != "" {
				t.Errorf("byte by byte (-want +got):\n%s", diff)
			}
			test.want.Payload = ""
			if len(test.in) > 1 {
				whole := func() int { return len(test.in) }
				if diff := cmp.Diff(test.want, feed(h.Body(), []byte(test.in), whole)); diff != "" {
					t.Errorf("in one piece (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestRefusedBody(t *testing.T) {
	for name, in := range map[string]string{
		"no size":                        "\r\n",
		"not hexadecimal":                "g\r\n",
		"0x":                             "0x5\r\n",
		"sign":                           "+5\r\n",
		"minus":                          "-5\r\n",
		"space before":                   " 5\r\n",
		"space after":                    "5 \r\n",
		"tab before an extension":        "5\t;a\r\n",
		"underscore":                     "1_0\r\n",
		"over 63 bits":                   "8000000000000000\r\n",
		"over 64 bits":                   "10000000000000000\r\n",
		"many noughts":                   "00000000000000000\r\n",
		"bare LF after the size":         "5\nabcde\r\n",
		"bare CR after the size":         "5\rabcde\r\n",
		"bare LF in an extension":        "5;a\nabcde",
		"bare CR in an extension":        "5;a\rb",
		"NUL in an extension":            "5;\x00",
		"data too long":                  "1\r\nabc\r\n",
		"bare LF after data":             "1\r\na\n0\r\n\r\n",
		"no CRLF after data":             "1\r\na0\r\n\r\n",
		"CR alone after data":            "1\r\na\r0\r\n\r\n",
		"trailer: bare LF":               "0\r\nA: b\n\r\n",
		"trailer: bare CR":               "0\r\nA: b\rc\r\n",
		"trailer: folding":               "0\r\nA: b\r\n c\r\n\r\n",
		"trailer: space before colon":    "0\r\nA : b\r\n\r\n",
		"trailer: no colon":              "0\r\nA\r\n\r\n",
		"trailer: no name":               "0\r\n: b\r\n\r\n",
		"trailer: NUL":                   "0\r\nA: \x00\r\n\r\n",
		"trailer: Content-Length":        "0\r\ncontent-length: 5\r\n\r\n",
		"trailer: Transfer-Encoding":     "0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"trailer: Host after another":    "0\r\nHosts: a\r\nHost: b\r\n\r\n",
		"trailer: Host":                  "0\r\nHost: b\r\n\r\n",
		"final CR without LF":            "0\r\n\rX",
		"bare LF at the end":             "0\r\n\n",
		"request in place of a size":     "GET / HTTP/1.1\r\n",
		"frames of next to no content":   strings.Repeat("1;"+strings.Repeat("e", 200)+"\r\nx\r\n", 100),
		"content gives no credit for it": "ffff\r\n" + strings.Repeat("x", 0xffff) + "\r\n" + strings.Repeat("1;"+strings.Repeat("e", 200)+"\r\nx\r\n", 100),
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := request(t, chunkedHead)
			b := h.Body()
			n, done, err := b.Next([]byte(in))
			var bad *SyntaxError
			if !errors.As(err, &bad) || done || n >= len(in) || bad.Offset != n {
				t.Fatalf("Next(%q) = %d, %v, %v; want a syntax error at the first byte not consumed", in, n, done, err)
			}
			if n, _, again := b.Next([]byte("0\r\n\r\n")); n != 0 || again != err {
				t.Errorf("after the error: %d, %v; want 0, %v", n, again, err)
			}
			if got := b.Finish(); got != err {
				t.Errorf("Finish = %v, want %v", got, err)
			}
		})
	}
	for name, in := range map[string]string{
		"extension": "1;" + strings.Repeat("e", maxChunkExt),
		"trailers":  "0\r\n" + strings.Repeat("A: 0123456789\r\n", MaxTrailers/14),
	} {
		h, _ := request(t, chunkedHead)
		b := h.Body()
		_, _, err := b.Next([]byte(in))
		if err == nil {
			_, _, err = b.Next([]byte("A: 0123456789\r\nA: b\r\n"))
		}
		if !errors.Is(err, ErrHeaderTooLarge) {
			t.Errorf("%s over the limit: got %v, want %v", name, err, ErrHeaderTooLarge)
		}
	}
}

// Chunks of one byte are legitimate.
func TestOneByteChunks(t *testing.T) {
	h, _ := request(t, chunkedHead)
	b := h.Body()
	in := []byte(strings.Repeat("1\r\nx\r\n", 10_000) + "0\r\n\r\n")
	if n, done, err := b.Next(in); n != len(in) || !done || err != nil || b.Payload() != 10_000 {
		t.Errorf("Next = %d, %v, %v, payload %d; want %d, true, nil, 10000", n, done, err, b.Payload(), len(in))
	}
}

func TestFinish(t *testing.T) {
	untilClose, _ := response(t, "HTTP/1.1 200 OK\r\n\r\n", 0)
	b := untilClose.Body()
	if n, done, err := b.Next([]byte("abc")); n != 3 || done || err != nil || !b.NeedsClose() || b.Payload() != 3 {
		t.Errorf("until close: Next = %d, %v, %v; want 3, false, nil", n, done, err)
	}
	if err := b.Finish(); err != nil || !b.Done() {
		t.Errorf("until close: Finish = %v, done %v; want nil, true", err, b.Done())
	}
	for _, head := range []string{lengthHead, chunkedHead} {
		h, _ := request(t, head)
		b := h.Body()
		if err := b.Finish(); !errors.Is(err, ErrTruncated) || b.NeedsClose() {
			t.Errorf("Finish = %v, want %v", err, ErrTruncated)
		}
	}
	switched, _ := response(t, "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n", KindUpgrade)
	tunnel := switched.Body()
	if n, done, err := tunnel.Next([]byte("\x00")); n != 1 || done || err != nil || !tunnel.NeedsClose() {
		t.Errorf("tunnel: Next = %d, %v, %v; want 1, false, nil", n, done, err)
	}
}

// FuzzBody: the result does not depend on the sizes of the pieces.
func FuzzBody(f *testing.F) {
	for _, in := range []string{
		"3\r\nabc\r\n0\r\n\r\nnext", "1;a=b\r\nx\r\n0\r\nA: b\r\n\r\n", "5\nabcde", "0\r\nHost: b\r\n\r\n", "12345next",
	} {
		f.Add([]byte(in), []byte{1, 2, 3}, true)
		f.Add([]byte(in), []byte{7}, false)
	}
	f.Fuzz(func(t *testing.T, in, sizes []byte, isChunked bool) {
		head := lengthHead
		if isChunked {
			head = chunkedHead
		}
		h, _ := request(t, head)
		want := feed(h.Body(), in, func() int { return len(in) })
		i := 0
		got := feed(h.Body(), in, func() int {
			if len(sizes) == 0 {
				return 1
			}
			i++
			return 1 + int(sizes[i%len(sizes)])
		})
		want.Payload, got.Payload = "", ""
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("in pieces (-whole +pieces):\n%s", diff)
		}
		if want.Consumed > len(in) || !want.Done && want.Err == "" && want.Consumed != len(in) {
			t.Errorf("consumed %d of %d", want.Consumed, len(in))
		}
	})
}

func BenchmarkChunkedBody(b *testing.B) {
	var in []byte
	for range 16 {
		in = append(in, "400\r\n"...)
		in = append(in, bytes.Repeat([]byte("x"), 1024)...)
		in = append(in, "\r\n"...)
	}
	in = append(in, "0\r\n\r\n"...)
	h, _ := request(b, chunkedHead)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		body := h.Body()
		if _, done, err := body.Next(in); !done || err != nil {
			b.Fatal(err)
		}
	}
}
