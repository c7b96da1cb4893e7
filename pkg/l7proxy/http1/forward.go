package http1

import (
	"bytes"

	"github.com/underlane/underlane/pkg/mesh"
)

// Connection is what a forwarded head says about the next connection's life.
type Connection uint8

const (
	// ConnectionDefault: the connection persists if it does by the message's version
	// and the sender's keep-alive, which is forwarded.
	ConnectionDefault Connection = iota
	// ConnectionClose: the connection ends. It is said by close, but in an HTTP/1.0
	// response only if its sender said so: there it is what no keep-alive means.
	ConnectionClose
	// ConnectionKeepAlive: the connection persists. It is said by keep-alive, as
	// HTTP/1.0 wants it, in a request and in the response to one.
	ConnectionKeepAlive
)

// Field is a field to add. Control bytes in it are replaced by '_'.
type Field = mesh.HeaderField

// Edits are the changes to a head that is forwarded. The zero Edits forwards
// it as it came, less what belongs to the connection it came on.
type Edits struct {
	Connection Connection
	Target     string   // request: replaces the target, if not ""
	Host       string   // request: replaces the value of Host, if not ""
	Remove     []string // names, in any case; never Host, Content-Length or Transfer-Encoding
	Add        []Field  // added at the end, after removal: to set a field, remove and add it
}

func (e *Edits) empty() bool {
	return e.Connection == ConnectionDefault && e.Target == "" && e.Host == "" && len(e.Remove) == 0 && len(e.Add) == 0
}

// AppendRequestHead appends the complete request head as it is to be
// forwarded: byte for byte, in its original order and spelling, except
//   - fields that belong to the connection (RFC 9110 §7.6.1): Connection, which is
//     written anew in its place, and what it lists, Keep-Alive, Proxy-Connection,
//     HTTP2-Settings, TE other than "trailers", and Upgrade unless Head.Upgrade has
//     one;
//   - a repeated equal Content-Length, and a Host that differs from an absolute
//     target's authority (RFC 9112 §3.2.2);
//   - edits.
//
// Transfer-Encoding stays, for the body's framing is forwarded too; so does
// the version.
func AppendRequestHead(dst []byte, h *Head, edits *Edits) []byte {
	return h.appendHead(dst, edits)
}

// AppendResponseHead is AppendRequestHead for a response, from which it also takes
// out framing fields that mean nothing (Head.Body) and white space before colons
// (RFC 9112 §5.1). A close that is not to be forwarded becomes keep-alive: that is
// true, and whoever closes the connection at the next hop has a place for its own
// close. In a 1xx response Edits.Connection is ignored.
func AppendResponseHead(dst []byte, h *Head, edits *Edits) []byte {
	return h.appendHead(dst, edits)
}

func (h *Head) appendHead(dst []byte, e *Edits) []byte {
	if !h.dropped && !h.rehost && e.empty() {
		return append(dst, h.buf[h.start:]...)
	}
	end := len(h.buf) - len("\r\n")
	pending := h.start // start of what is to be copied next
	if e.Target != "" && !h.response {
		dst = append(dst, h.buf[h.start:h.target.from]...)
		dst = appendClean(dst, e.Target, cTarget)
		pending = int(h.target.to)
	}
	for i := range h.fields {
		f := &h.fields[i]
		newHost := f.known == fieldHost && !h.response && (h.rehost || e.Host != "")
		connection := i+1 == h.connection
		if connection && h.plain && e.Connection == ConnectionDefault {
			continue // keep-alive, as it came
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
			dst = h.appendConnection(dst, e)
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
		dst = h.appendConnection(dst, e)
	}
	for i := range e.Add {
		dst = appendClean(dst, e.Add[i].Name, cToken)
		dst = append(dst, ": "...)
		dst = appendClean(dst, e.Add[i].Value, cValue)
		dst = append(dst, "\r\n"...)
	}
	return append(dst, "\r\n"...)
}

func (e *Edits) removes(name []byte, k known) bool {
	if k.framing() {
		return false
	}
	for _, remove := range e.Remove {
		if equalFold(name, remove) {
			return true
		}
	}
	return false
}

// life is what Connection says of the next connection's.
func (h *Head) life(e *Edits) Connection {
	life := e.Connection
	if h.response && h.status/100 == 1 { // not the last response: the connection does not end with it
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

// appendConnection writes the fields that belong to the next connection.
func (h *Head) appendConnection(dst []byte, e *Edits) []byte {
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

// appendClean appends s with the bytes outside the class replaced: an added
// field can never break the head's framing.
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
