package http1

import (
	"bytes"
	"math"

	"github.com/underlane/underlane/pkg/mesh"
)

// known is a field that has a meaning for the proxy.
type known uint8

const (
	other known = iota
	fieldAuthorization
	fieldConnection
	fieldContentLength
	fieldContentType
	fieldHost
	fieldHTTP2Settings
	fieldKeepAlive
	fieldProxyAuthenticate
	fieldProxyAuthorization
	fieldProxyConnection
	fieldTE
	fieldTransferEncoding
	fieldUpgrade
	fieldWWWAuthenticate
)

var knownNames = [...]string{
	fieldAuthorization:      "authorization",
	fieldConnection:         "connection",
	fieldContentLength:      "content-length",
	fieldContentType:        "content-type",
	fieldHost:               "host",
	fieldHTTP2Settings:      "http2-settings",
	fieldKeepAlive:          "keep-alive",
	fieldProxyAuthenticate:  "proxy-authenticate",
	fieldProxyAuthorization: "proxy-authorization",
	fieldProxyConnection:    "proxy-connection",
	fieldTE:                 "te",
	fieldTransferEncoding:   "transfer-encoding",
	fieldUpgrade:            "upgrade",
	fieldWWWAuthenticate:    "www-authenticate",
}

// classify looks a name up by its length, then compares it regardless of case.
func classify(name []byte) known {
	k := other
	switch len(name) {
	case 2:
		k = fieldTE
	case 4:
		k = fieldHost
	case 7:
		k = fieldUpgrade
	case 10:
		k = fieldConnection
		if lower(name[0]) == 'k' {
			k = fieldKeepAlive
		}
	case 12:
		k = fieldContentType
	case 13:
		k = fieldAuthorization
	case 14:
		k = fieldContentLength
		if lower(name[0]) == 'h' {
			k = fieldHTTP2Settings
		}
	case 16:
		k = fieldProxyConnection
		if lower(name[0]) == 'w' {
			k = fieldWWWAuthenticate
		}
	case 17:
		k = fieldTransferEncoding
	case 18:
		k = fieldProxyAuthenticate
	case 19:
		k = fieldProxyAuthorization
	}
	if k != other && equalFold(name, knownNames[k]) {
		return k
	}
	return other
}

// framing reports a field that is forwarded even if Connection lists it or an edit
// removes it: without it the next hop would read the message differently.
func (k known) framing() bool {
	return k == fieldContentLength || k == fieldTransferEncoding || k == fieldHost
}

// learn records the meaning of one known field.
func (h *interpreter) learn(f *field) error {
	value, at := h.at(f.value), int(f.value.from)
	switch f.known {
	case fieldConnection:
		f.drop = true
		h.connections++
		if h.connection == 0 {
			h.connection = len(h.fields) + 1
		}
		return h.learnConnection(value, at)
	case fieldContentLength:
		if h.bodiless() {
			h.ignoreFraming(f, value)
			return nil
		}
		length, ok := parseLength(value)
		if !ok && h.response {
			if value, ok = h.onlyElement(f, value); ok {
				length, ok = parseLength(value)
			}
		}
		if !ok {
			return syntax(at, "Content-Length is not one number in range")
		}
		if h.hasLength && !bytes.Equal(value, h.at(h.lengthText)) {
			return syntax(at, "Content-Length fields differ")
		}
		f.drop = h.hasLength
		h.length, h.hasLength, h.lengthText = length, true, f.value
	case fieldTransferEncoding:
		if h.bodiless() {
			h.ignoreFraming(f, value)
			return nil
		}
		if h.chunked || !equalFold(value, "chunked") {
			if h.response && h.oddCoding(f, value) {
				return nil
			}
			return syntax(at, "Transfer-Encoding is not chunked alone")
		}
		h.chunked = true
	case fieldHost:
		if h.response {
			return nil
		}
		if h.hasHost {
			return syntax(at, "more than one Host field")
		}
		if len(value) > 0 && !validAuthority(value, false) && !bareAddress(value) {
			return syntax(at, "Host is not a host and port")
		}
		h.host, h.hasHost = f.value, true
	case fieldUpgrade:
		if h.protocol.from == h.protocol.to {
			h.protocol = f.value
		}
		h.h2c = h.h2c || lists(value, "h2c")
	case fieldTE:
		f.drop = true
		h.teTrailers = h.teTrailers || lists(value, "trailers")
	case fieldHTTP2Settings, fieldKeepAlive, fieldProxyConnection:
		f.drop = true
	case fieldAuthorization, fieldProxyAuthorization:
		h.binds = h.binds || !h.response && CredentialsBind(value)
	case fieldWWWAuthenticate, fieldProxyAuthenticate:
		h.binds = h.binds || h.response && ChallengeBinds(value)
	case fieldContentType:
		h.grpc = h.grpc || mesh.IsGRPC(value)
	}
	return nil
}

// bodiless reports a response that ends at its empty line, regardless of its fields:
// 1xx, 204, and 2xx to CONNECT (RFC 9112 §6.3).
func (h *interpreter) bodiless() bool {
	return h.response && (h.status/100 == 1 || h.status == 204 || h.tunnels())
}

// tunnels reports a successful response to CONNECT (RFC 9110 §9.3.6).
func (h *message) tunnels() bool { return h.asked&KindCONNECT != 0 && h.status/100 == 2 }

// ignoreFraming records a framing field of a bodiless response. Servers must not send
// one (RFC 9110 §8.6, RFC 9112 §6.1), but many do, and clients ignore it. It is not
// forwarded, except for a length of 0, which is correct.
func (h *interpreter) ignoreFraming(f *field, value []byte) {
	length, ok := parseLength(value)
	if f.known == fieldContentLength && ok && length == 0 && !h.hasLength {
		h.hasLength = true
		return
	}
	f.drop, h.misframed = true, true
}

func (h *interpreter) learnConnection(value []byte, at int) error {
	for option, rest, ok := nextElement(value); ok; option, rest, ok = nextElement(rest) {
		switch {
		case indexNot(option, cToken) >= 0:
			return syntax(at, "Connection has an option that is not a name")
		case len(option) == 0:
		case equalFold(option, "close"):
			h.close = true
		case equalFold(option, "keep-alive"):
			h.keepAlive = true
		case equalFold(option, "upgrade"):
			h.upgrade = true
		case equalFold(option, "te"):
			h.te = true
		case h.options == maxOptions:
			return ErrHeaderTooLarge
		default:
			h.options++
		}
	}
	return nil
}

// listedByConnection reports whether a Connection field lists this name.
func (h *interpreter) listedByConnection(name []byte) bool {
	for i := h.connection - 1; i < len(h.fields); i++ {
		if h.fields[i].known == fieldConnection && lists(h.at(h.fields[i].value), name) {
			return true
		}
	}
	return false
}

// finish makes the checks that need the whole head, and marks the fields that are not
// forwarded because they belong to this connection (RFC 9110 §7.6.1). end is the length of
// the head.
func (h *interpreter) finish(end int) error {
	if h.chunked && !(h.response && h.mendFraming()) {
		switch {
		case h.hasLength:
			return syntax(end, "both Content-Length and Transfer-Encoding")
		case h.minor == 0:
			return syntax(end, "Transfer-Encoding in HTTP/1.0")
		}
	}
	var err error
	if h.response {
		err = h.finishResponse(end)
	} else {
		err = h.finishRequest(end)
	}
	if err != nil {
		return err
	}
	if h.options > 0 || h.protocol != (span{}) {
		h.dropListed()
	}
	h.dropped = h.dropped || h.connection > 0 && !h.keepsConnection(&Edits{})
	return nil
}

// dropListed marks the fields that Connection lists, and those that ask for an upgrade which is
// none.
func (h *interpreter) dropListed() {
	for i := range h.fields {
		f := &h.fields[i]
		switch {
		case f.known == fieldUpgrade:
			f.drop = !h.upgrades()
		case h.options > 0 && !f.known.framing() && h.listedByConnection(h.at(f.name)):
			f.drop = true
		}
		h.dropped = h.dropped || f.drop && f.known != fieldConnection
	}
}

// keepsConnection reports whether the only Connection field says what the next hop needs.
// It is then forwarded in its own spelling, which some programs compare.
func (h *message) keepsConnection(e *Edits) bool {
	life := h.life(e)
	return h.connections == 1 && h.options == 0 && !h.te && !h.teTrailers &&
		h.close == (life == ConnectionClose) && h.keepAlive == (life == ConnectionKeepAlive) && h.upgrade == h.upgrades()
}

func (h *interpreter) finishRequest(end int) error {
	if h.minor > 0 && !h.hasHost {
		return syntax(end, "HTTP/1.1 request without Host")
	}
	if string(h.Method()) == "CONNECT" && (h.chunked || h.length > 0) {
		return syntax(end, "CONNECT with a body")
	}
	h.rehost = h.hasHost && h.authHost != (span{}) && !equalFold(h.at(h.authHost), h.at(h.host))
	return nil
}

// finishResponse: RFC 9110 §15.2.2.
func (h *interpreter) finishResponse(end int) error {
	switch {
	case h.status == 101 && h.asked&KindUpgrade == 0:
		return syntax(end, "a 101 response that was not asked for")
	case h.status == 101 && !h.upgrades():
		return syntax(end, "a 101 response does not say what it switches to")
	}
	return nil
}

// parseLength: 1*DIGIT that fits into 63 bits (RFC 9110 §8.6).
func parseLength(value []byte) (length int64, ok bool) {
	if len(value) == 0 || len(value) > 19 || indexNot(value, cDigit) >= 0 {
		return 0, false
	}
	var n uint64 // 19 digits fit
	for _, c := range value {
		n = n*10 + uint64(c-'0')
	}
	return int64(n), n <= math.MaxInt64
}

// lists reports whether the comma-separated list has this element, regardless of case.
func lists[S string | []byte](list []byte, name S) bool {
	for element, rest, ok := nextElement(list); ok; element, rest, ok = nextElement(rest) {
		if equalFold(element, name) {
			return true
		}
	}
	return false
}
