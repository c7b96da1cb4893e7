package detect

import "bytes"

const (
	recordHandshake    = 22 // TLSPlaintext.type (RFC 8446 §5.1)
	recordHeader       = 5
	recordMax          = 1 << 14
	handshakeHeader    = 4
	clientHello        = 1 // Handshake.msg_type
	extensionSNI       = 0
	extensionALPN      = 16
	sniHostName        = 0
	maxSNI             = 255
	meshALPN           = "underlane/"
	clientHelloMinimum = 2 + 32 + 1 + 2 + 2 + 1 + 1 // version, random, session id, one suite, one compression
)

// detectTLS reads a ClientHello, and asks for more bytes until it is complete. A hello
// over MaxBytes is TLS, without a server name.
func detectTLS(buf []byte) Result {
	// The bytes that have arrived of: type, version 3.0 to 3.4, length, msg_type.
	if len(buf) > 1 && buf[1] != 3 || len(buf) > 2 && buf[2] > 4 {
		return Result{Protocol: Opaque}
	}
	if len(buf) < recordHeader {
		return needMore
	}
	if len(buf) > recordHeader && buf[recordHeader] != clientHello {
		return Result{Protocol: Opaque}
	}
	hello, state := joinRecords(buf)
	switch {
	case state == bad:
		return Result{Protocol: Opaque}
	case state == partial && len(buf) >= MaxBytes:
		return Result{Protocol: TLS}
	case state == partial:
		return needMore
	}
	return parseHello(hello)
}

type completeness uint8

const (
	partial completeness = iota
	whole
	bad
)

func recordLength(record []byte) int { return int(record[3])<<8 | int(record[4]) }

// joinRecords returns the body of the ClientHello at the start of buf. A hello within
// one record, the usual case, is returned in place.
func joinRecords(buf []byte) (hello []byte, state completeness) {
	var joined []byte
	for rest := buf; ; {
		if len(rest) < recordHeader {
			return nil, partial
		}
		n := recordLength(rest)
		if rest[0] != recordHandshake || rest[1] != 3 || n == 0 || n > recordMax {
			return nil, bad
		}
		fragment := rest[recordHeader:min(len(rest), recordHeader+n)]
		if joined == nil {
			joined = fragment[:len(fragment):len(fragment)]
		} else {
			joined = append(joined, fragment...)
		}
		if len(joined) >= handshakeHeader {
			size := int(joined[1])<<16 | int(joined[2])<<8 | int(joined[3])
			if size < clientHelloMinimum {
				return nil, bad
			}
			if len(joined) >= handshakeHeader+size {
				return joined[handshakeHeader : handshakeHeader+size], whole
			}
			if handshakeHeader+size > MaxBytes {
				return nil, partial
			}
		}
		if len(rest) < recordHeader+n {
			return nil, partial
		}
		rest = rest[recordHeader+n:]
	}
}

// parseHello walks a ClientHello body (RFC 8446 §4.1.2) for the server name
// and for an ALPN protocol of the mesh.
func parseHello(hello []byte) Result {
	c := cursor{rest: hello, ok: true}
	c.skip(2 + 32) // legacy_version, random
	c.vector8()    // legacy_session_id
	c.vector16()   // cipher_suites
	c.vector8()    // legacy_compression_methods
	if !c.ok {
		return Result{Protocol: Opaque}
	}
	result := Result{Protocol: TLS}
	if len(c.rest) == 0 { // no extensions: TLS 1.2 and older
		return result
	}
	extensions := cursor{rest: c.vector16(), ok: c.ok}
	for extensions.ok && len(extensions.rest) > 0 {
		kind, body := extensions.uint16(), extensions.vector16()
		switch {
		case !extensions.ok:
		case kind == extensionSNI:
			result.SNI = serverName(body)
		case kind == extensionALPN:
			result.OffersMesh = offersMesh(body)
		}
	}
	if !extensions.ok {
		return Result{Protocol: Opaque}
	}
	return result
}

// serverName returns the host_name of a server_name extension (RFC 6066 §3).
func serverName(body []byte) string {
	list := cursor{rest: body, ok: true}
	list = cursor{rest: list.vector16(), ok: list.ok}
	for list.ok && len(list.rest) > 0 {
		kind, name := list.uint8(), list.vector16()
		if list.ok && kind == sniHostName && isHostName(name) {
			return string(name)
		}
	}
	return ""
}

// isHostName limits a name that appears in terminals and logs to letters, digits, '-',
// '.' and '_'.
func isHostName(name []byte) bool {
	for _, c := range name {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && !('0' <= c && c <= '9') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return 0 < len(name) && len(name) <= maxSNI
}

// offersMesh reports whether an ALPN extension (RFC 7301 §3.1) lists a
// protocol of the mesh.
func offersMesh(body []byte) bool {
	list := cursor{rest: body, ok: true}
	list = cursor{rest: list.vector16(), ok: list.ok}
	for list.ok && len(list.rest) > 0 {
		if name := list.vector8(); list.ok && bytes.HasPrefix(name, []byte(meshALPN)) {
			return true
		}
	}
	return false
}

// cursor reads the TLS presentation language. ok becomes false, and stays so, if the
// bytes end early.
type cursor struct {
	rest []byte
	ok   bool
}

func (c *cursor) skip(n int) []byte {
	if !c.ok || n > len(c.rest) {
		c.ok = false
		return nil
	}
	head := c.rest[:n]
	c.rest = c.rest[n:]
	return head
}

func (c *cursor) uint8() int {
	if b := c.skip(1); b != nil {
		return int(b[0])
	}
	return 0
}

func (c *cursor) uint16() int {
	if b := c.skip(2); b != nil {
		return int(b[0])<<8 | int(b[1])
	}
	return 0
}

func (c *cursor) vector8() []byte  { return c.skip(c.uint8()) }
func (c *cursor) vector16() []byte { return c.skip(c.uint16()) }
