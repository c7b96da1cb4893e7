package http1

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTrailers: the trailers are the same however the bytes are divided, and cost nothing
// unless they are asked for.
func TestTrailers(t *testing.T) {
	head := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for text, want := range map[string][]string{
		"5\r\nhello\r\n0\r\n\r\n":                                     nil,
		"5;x=y: z\r\nhe: o\r\n0\r\nX-Sum: 42\r\n\r\n":                 {"X-Sum=42"},
		"0\r\nA:1\r\na:\t b: c \r\nEmpty:\r\n\r\nHTTP/1.1 200 OK\r\n": {"A=1", "a=b: c", "Empty="},
	} {
		for _, step := range []int{1, 3, len(text)} {
			var h Head
			_, _ = ParseResponse([]byte(head), &h, 0)
			body := h.Body()
			body.KeepTrailers()
			for part := range slices.Chunk([]byte(text), step) {
				if n, done, err := body.Next(part); err != nil || done || n < len(part) {
					break
				}
			}
			var got []string
			for name, value := range body.Trailers() {
				got = append(got, fmt.Sprintf("%s=%s", name, value))
			}
			if diff := cmp.Diff(want, got); diff != "" || !body.Done() {
				t.Errorf("%q by %d, done %v (-want +got):\n%s", text, step, body.Done(), diff)
			}
		}
	}
	var h Head
	_, _ = ParseResponse([]byte(head), &h, 0)
	text := []byte("0\r\nX-Sum: " + strings.Repeat("4", 1000) + "\r\n\r\n")
	if n := testing.AllocsPerRun(100, func() {
		body := h.Body()
		_, _, _ = body.Next(text)
	}); n != 0 {
		t.Errorf("%v allocations for trailers that nothing asks for, want 0", n)
	}
}
