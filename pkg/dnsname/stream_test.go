package dnsname

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// stream puts messages after each other.
func stream(messages ...[]byte) (out []byte) {
	for _, m := range messages {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(m))), m...)
	}
	return out
}

// TestStream: messages are found wherever the pieces end, and what is kept is bounded.
func TestStream(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789"), 3000)
	messages := [][]byte{[]byte("one"), {}, []byte("two, longer"), long, []byte("three")}
	want := [][]byte{[]byte("one"), {}, []byte("two, longer"), long[:maxKept], []byte("three")}
	all := stream(messages...)
	for _, size := range []int{1, 2, 3, 7, 100, maxKept + 1, len(all)} {
		var s Stream
		var got [][]byte
		for piece := range slices.Chunk(all, size) {
			s.Feed(piece, func(m []byte) { got = append(got, slices.Clone(m)) })
			if cap(s.kept) > 2*maxKept+16 {
				t.Fatalf("%d bytes are kept", cap(s.kept))
			}
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("pieces of %d: got %d messages, %.40q", size, len(got), got)
		}
		if s.kept != nil || s.skip != 0 {
			t.Errorf("pieces of %d: %d bytes are left over, %d to skip", size, len(s.kept), s.skip)
		}
	}
}

func FuzzStream(f *testing.F) {
	f.Add(stream([]byte("one"), []byte("two")), 3)
	f.Add([]byte{0xff}, 1)
	f.Fuzz(func(t *testing.T, all []byte, size int) {
		var whole, cut Stream
		var a, b [][]byte
		whole.Feed(all, func(m []byte) { a = append(a, slices.Clone(m)) })
		for piece := range slices.Chunk(all, max(1, size)) {
			cut.Feed(piece, func(m []byte) { b = append(b, slices.Clone(m)) })
		}
		if !slices.EqualFunc(a, b, bytes.Equal) {
			t.Errorf("%d messages, in pieces %d", len(a), len(b))
		}
	})
}
