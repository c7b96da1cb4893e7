package http1

import (
	"bytes"

	"github.com/underlane/underlane/pkg/mesh"
)

// Connection sets what a forwarded head says about the lifetime of the connection that
// it is sent on.
type Connection uint8

const (
	// ConnectionDefault: the connection persists according to the message's version and
	// the sender's keep-alive, which is forwarded.
	ConnectionDefault Connection = iota
	// ConnectionClose: the connection ends after the message, which says close. An
	// HTTP/1.0 response says it only if its sender did: there it is the default.
	ConnectionClose
	// ConnectionKeepAlive: the connection persists, and the message says keep-alive.
	// HTTP/1.0 requires it in a request and in the response.
	ConnectionKeepAlive
)

// Field is a field to add. Its control bytes are replaced by '_'.
type Field = mesh.HeaderField

// Edits are the changes to a forwarded head. The zero Edits forwards it unchanged, except
// for the fields that belong to the connection on which it arrived.
type Edits struct {
	Connection Connection
	Target     string   // request: replaces the target, unless it is ""
	Host       string   // request: replaces the value of Host, unless it is ""
	Remove     []string // names, regardless of case; Host, Content-Length and Transfer-Encoding stay
	Alike      bool     // remove fields whose names are Alike, too
	Add        []Field  // appended after the removal: to set a field, remove it and add it
}

func (e *Edits) empty() bool {
	return e.Connection == ConnectionDefault && e.Target == "" && e.Host == "" && len(e.Remove) == 0 && len(e.Add) == 0
}

// AppendRequestHead appends the request head in the form in which it is forwarded: byte
// for byte, in its original order and spelling, except for
//   - the fields that belong to the connection (RFC 9110 §7.6.1): Connection, which is
//     rewritten in its place if it has to say something else, the fields that it lists, Keep-Alive, Proxy-Connection,
//     HTTP2-Settings, TE other than "trailers", and Upgrade unless Head.Upgrade
//     returns it;
//   - a repeated equal Content-Length, and a Host that differs from the authority of an
//     absolute target (RFC 9112 §3.2.2);
//   - edits.
//
// Transfer-Encoding stays, because the body is forwarded with its framing. The version
// stays too.
func AppendRequestHead(dst []byte, h *Head, edits *Edits) []byte {
	return appendHead(dst, &h.message, edits)
}

// AppendResponseHead is AppendRequestHead for a response. It also removes framing fields
// that have no meaning (RFC 9112 §6.3) and white space before colons (§5.1), and mends
// what else is wrong without being ambiguous (mend.go). A close that
// does not apply to the next connection becomes keep-alive: this is correct, and keeps a
// place where the next proxy can write its own close. In a 1xx response
// Edits.Connection is ignored.
func AppendResponseHead(dst []byte, h *Head, edits *Edits) []byte {
	return appendHead(dst, &h.message, edits)
}

func appendHead(dst []byte, h *message, e *Edits) []byte {
	if !h.dropped && !h.rehost && !h.loose && e.empty() {
		return append(dst, h.buf[h.start:]...)
	}
	if h.loose {
		return appendMended(dst, h, e)
	}
	end := len(h.buf) - len("\r\n")
	pending := h.start // start of the next bytes to copy
	if e.Target != "" && !h.response {
		dst = append(dst, h.buf[h.start:h.target.from]...)
		dst = appendClean(dst, e.Target, cTarget)
		pending = int(h.target.to)
	}
	for i := range h.fields {
		f := &h.fields[i]
		newHost := f.known == fieldHost && !h.response && (h.rehost || e.Host != "")
		connection := i+1 == h.connection
		if connection && h.keepsConnection(e) {
			continue
		}
		if !f.drop && !newHost && !e.removes(h.at(f.name), f.known) {
			if f.spaced {
				dst = append(dst, h.buf[pending:f.name.to]...)
				pending = int(f.name.to) + bytes.IndexByte(h.buf[f.name.to:], ':')
			}
			continue
		}
		next := end
		if i+1 < len(h.fields) {
			next = int(h.fields[i+1].name.from)
		}
		dst = append(dst, h.buf[pending:f.name.from]...)
		pending = next
		switch {
		case connection:
			dst = appendConnection(dst, h, e)
		case newHost:
			dst = append(dst, h.at(f.name)...)
			dst = append(dst, ": "...)
			if e.Host != "" {
				dst = appendClean(dst, e.Host, cTarget)
			} else {
				dst = append(dst, h.at(h.authHost)...)
			}
			dst = append(dst, "\r\n"...)
		}
	}
	dst = append(dst, h.buf[pending:end]...)
	if h.connection == 0 {
		dst = appendConnection(dst, h, e)
	}
	for i := range e.Add {
		dst = AppendField(dst, e.Add[i].Name, e.Add[i].Value)
	}
	return append(dst, "\r\n"...)
}

// AppendField appends a field line. Bytes that may not be in one are replaced by '_'.
func AppendField(dst []byte, name, value string) []byte {
	dst = appendClean(dst, name, cToken)
	dst = append(dst, ": "...)
	dst = appendClean(dst, value, cValue)
	return append(dst, "\r\n"...)
}

func (e *Edits) removes(name []byte, k known) bool {
	if k.framing() {
		return false
	}
	for _, remove := range e.Remove {
		if equalFold(name, remove) || e.Alike && Alike(name, remove) {
			return true
		}
	}
	return false
}

// life returns what the forwarded head says about its connection's lifetime.
func (h *message) life(e *Edits) Connection {
	life := e.Connection
	if h.response && h.status/100 == 1 { // another response follows: the connection does not end after this one
		life = ConnectionDefault
	}
	switch {
	case life == ConnectionClose && h.response && h.minor == 0 && !h.close:
		return ConnectionDefault
	case life != ConnectionDefault:
		return life
	case h.keepAlive && !h.close, h.response && h.minor > 0 && h.status/100 > 1 && h.close:
		return ConnectionKeepAlive
	}
	return ConnectionDefault
}

// appendConnection appends the fields that belong to the next connection.
func appendConnection(dst []byte, h *message, e *Edits) []byte {
	life := h.life(e)
	options := [...]struct {
		on   bool
		name string
	}{
		{life == ConnectionClose, "close"},
		{life == ConnectionKeepAlive, "keep-alive"},
		{h.upgrades(), "upgrade"},
		{h.teTrailers && !h.response, "te"},
	}
	separator := "Connection: "
	for _, option := range options {
		if option.on {
			dst = append(dst, separator...)
			dst = append(dst, option.name...)
			separator = ", "
		}
	}
	if separator == ", " {
		dst = append(dst, "\r\n"...)
	}
	if h.teTrailers && !h.response {
		dst = append(dst, "TE: trailers\r\n"...)
	}
	return dst
}

// AppendTarget appends s with the bytes replaced that no request target or location
// may have.
func AppendTarget(dst []byte, s string) []byte { return appendClean(dst, s, cTarget) }

// appendClean appends s, and replaces the bytes outside the class. So an added field
// cannot break the framing of the head.
func appendClean(dst []byte, s string, bit uint8) []byte {
	for i := range len(s) {
		c := s[i]
		if class[c]&bit == 0 {
			c = '_'
		}
		dst = append(dst, c)
	}
	return dst
}
