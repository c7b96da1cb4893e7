package proxytest

import (
	"crypto/sha256"
	"fmt"
	"io"
)

// Pattern reads as so many bytes that do not repeat soon.
type Pattern struct{ at, n int64 }

// NewPattern is a pattern of n bytes.
func NewPattern(n int64) *Pattern { return &Pattern{n: n} }

// Read implements io.Reader.
func (p *Pattern) Read(b []byte) (int, error) {
	if p.at >= p.n {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.n-p.at)]
	for i := range b {
		b[i] = byte((p.at + int64(i)) * 2654435761 >> 13)
	}
	p.at += int64(len(b))
	return len(b), nil
}

// Sum is a checksum of what r has, and how many bytes that is.
func Sum(r io.Reader) (string, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return fmt.Sprintf("%x", h.Sum(nil)), n, err
}

// PatternSum is the Sum of a pattern of n bytes.
func PatternSum(n int64) string {
	s, _, _ := Sum(NewPattern(n))
	return s
}
