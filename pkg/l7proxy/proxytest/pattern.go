package proxytest

import (
	"crypto/sha256"
	"fmt"
	"io"
)

// Pattern is a reader of n bytes that repeat only after a long distance.
type Pattern struct{ at, n int64 }

// NewPattern returns a pattern of n bytes.
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

// Sum reads r to its end. It returns a checksum and the number of bytes.
func Sum(r io.Reader) (string, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return fmt.Sprintf("%x", h.Sum(nil)), n, err
}

// PatternSum returns the checksum of a pattern of n bytes.
func PatternSum(n int64) string {
	s, _, _ := Sum(NewPattern(n))
	return s
}
