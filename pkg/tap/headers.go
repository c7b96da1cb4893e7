package tap

import (
	"fmt"
	"slices"
	"strings"
)

// Header is one field of a head, or of trailers.
type Header struct {
	Name  string // in lower case
	Value string // bytes of the wire, which need not be UTF-8; Redacted for what is secret
}

// Redacted stands for the value of a field that is not to be shown.
const Redacted = "[redacted]"

// Limits on the fields of one event. The bytes are those of names and values.
const (
	MaxHeaders     = 64
	MaxHeaderBytes = 8 << 10
)

// Headers are the fields of the head or of the trailers that an Event reports. They do
// not change once an Event has them: the copies of an Event share them.
type Headers struct {
	List  []Header
	Cut   bool // some fields, or the end of a value, are left out because of a limit
	Bytes int  // of names and values
}

// cutHeaders stands for fields that a subscription has no room for.
var cutHeaders = &Headers{Cut: true}

// Size returns the bytes of names and values. It is 0 for nil.
func (h *Headers) Size() int {
	if h == nil {
		return 0
	}
	return h.Bytes
}

// secrets are the names of the fields whose values are never shown.
var secrets = []string{"authorization", "proxy-authorization", "cookie", "set-cookie"}

// Redaction says which values are not to be shown. It is immutable. Its methods do not
// keep the secret values, so that these are not in memory for longer than the request.
type Redaction struct {
	names []string // in lower case
	all   bool
}

// NewRedaction makes a Redaction of Authorization, Proxy-Authorization, Cookie, Set-Cookie
// and the fields named, in any case. The name "*" stands for all fields.
func NewRedaction(names ...string) (*Redaction, error) {
	r := &Redaction{names: slices.Clone(secrets)}
	for _, name := range names {
		name = strings.ToLower(strings.TrimSpace(name))
		switch {
		case name == "":
		case name == "*":
			r.all = true
		case strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c) }):
			return nil, fmt.Errorf("redacted header %q: want names of header fields (RFC 9110 §5.1), or * for all", name)
		default:
			r.names = append(r.names, name)
		}
	}
	return r, nil
}

// Add returns h with one more field, without its value if r redacts that. h may be nil. With secret set the value is not kept,
// whatever the name. Pseudo-header fields of HTTP/2 are left out: an Event has them.
func Add[S string | []byte](r *Redaction, h *Headers, name, value S, secret bool) *Headers {
	if len(name) > 0 && name[0] == ':' {
		return h
	}
	if h == nil {
		h = &Headers{List: make([]Header, 0, 16)}
	}
	room := MaxHeaderBytes - h.Bytes
	if len(h.List) >= MaxHeaders || len(name) > room {
		h.Cut = true
		return h
	}
	f := Header{Name: strings.ToLower(string(name)), Value: Redacted}
	if !secret && !r.all && !slices.Contains(r.names, f.Name) {
		if room -= len(name); len(value) > room {
			f.Value, h.Cut = strings.Clone(string(value[:room])), true // the rest is not kept alive
		} else {
			f.Value = string(value)
		}
	}
	h.Bytes += len(f.Name) + len(f.Value)
	h.List = append(h.List, f)
	return h
}
