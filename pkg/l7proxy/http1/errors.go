package http1

import (
	"errors"
	"strconv"
)

// Limits. A message that exceeds one of them is refused with ErrHeaderTooLarge.
const (
	MaxHead     = 1<<16 - 1 // bytes of a head, including start line and final CRLF
	MaxFields   = 256       // field lines of a head
	MaxMethod   = 32        // bytes of a method
	MaxTrailers = 16 << 10  // bytes of a trailer section
	maxOptions  = 32        // field names listed by Connection
	maxChunkExt = 256       // bytes of a chunk's first line
)

var (
	// ErrHeaderTooLarge: a head or trailer section exceeds its limit. The message may
	// be valid otherwise.
	ErrHeaderTooLarge = errors.New("http1: header section is over the limit")
	// ErrTruncated: the connection ended before the end of a body.
	ErrTruncated = errors.New("http1: connection closed before the body was complete")
)

// SyntaxError describes a message that violates RFC 9112, or that parsers could read in
// different ways.
type SyntaxError struct {
	Offset int    // position of the error in bytes, from the start of the head or of the body as received
	Reason string // description of the error
}

func (e *SyntaxError) Error() string {
	return "http1: " + e.Reason + " (at byte " + strconv.Itoa(e.Offset) + ")"
}

func syntax(offset int, reason string) error { return &SyntaxError{Offset: offset, Reason: reason} }
