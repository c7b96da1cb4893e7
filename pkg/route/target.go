package route

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
)

// RewritesTarget reports whether AppendTarget changes the target.
func (a *Action) RewritesTarget() bool { return a.Kind == Forward && a.path.Kind != mesh.PathKeep }

// AppendTarget appends the path and query of a request after the action's
// rewrite. A target without a path (CONNECT, OPTIONS *) stays as it is.
func (a *Action) AppendTarget(dst []byte, r *Request, hit Hit) []byte {
	if a.path.Kind == mesh.PathKeep {
		return append(dst, r.Path...)
	}
	if r.Method == "CONNECT" && r.Path == "" || r.Path == "*" {
		return append(dst, r.Path...) // authority-form or asterisk-form: no path to rewrite
	}
	path, query := r.Path, ""
	if i := strings.IndexByte(path, '?'); i >= 0 {
		path, query = path[:i], path[i:]
	}
	dst = append(dst, a.path.Value...)
	if a.path.Kind == mesh.PathReplacePrefix {
		rest := path[min(hit.prefix, len(path)):]
		if a.path.Value == "" && !strings.HasPrefix(rest, "/") {
			dst = append(dst, '/')
		}
		dst = append(dst, rest...)
	}
	return append(dst, query...)
}

// AppendLocation appends the Location of a redirect. port is the Service's port
// that the request came to. If neither the request nor the redirect has a host,
// the Location is a path only.
func (a *Action) AppendLocation(dst []byte, r *Request, hit Hit, port uint16) []byte {
	scheme := "http"
	if a.redirect.Scheme == "https" || a.redirect.Scheme == "" && r.Scheme == "https" {
		scheme = "https"
	}
	host := a.redirect.Hostname
	if host == "" {
		host = hostOf(r.Authority)
	}
	if host != "" {
		dst = append(dst, scheme...)
		dst = append(dst, "://"...)
		dst = appendSafe(dst, host)
		if port := redirectPort(a.redirect, port); port != wellKnown(scheme) {
			dst = append(dst, ':')
			dst = strconv.AppendUint(dst, uint64(port), 10)
		}
	}
	if a.path.Kind == mesh.PathKeep && (r.Path == "" || r.Path[0] == '?') {
		dst = append(dst, '/')
	}
	from := len(dst)
	dst = a.AppendTarget(dst, r, hit)
	if host == "" && bytes.HasPrefix(dst[from:], []byte("//")) {
		// With no authority before it, "//" would be read as the start of one.
		// Prefix "/.", which gives the same path (RFC 3986 §4.2).
		dst = slices.Insert(dst, from, '/', '.')
	}
	return escapeFrom(dst, from)
}

// redirectPort returns the redirect's port; if it has none, the default port of
// its scheme; if it has no scheme either, the port that the request came to.
func redirectPort(r *mesh.RouteRedirect, port uint16) uint16 {
	switch {
	case r.Port != 0:
		return r.Port
	case r.Scheme != "":
		return wellKnown(r.Scheme)
	}
	return port
}

func wellKnown(scheme string) uint16 {
	if scheme == "https" {
		return 443
	}
	return 80
}

// unsafeByte reports whether a byte is not allowed in a URI (RFC 3986 §2). The
// target comes from the client: unescaped, such a byte could inject a header
// field or change the meaning of the Location.
func unsafeByte(c byte) bool {
	return c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0
}

func appendSafe(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; unsafeByte(c) {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// escapeFrom percent-encodes the unsafe bytes of dst[from:].
func escapeFrom(dst []byte, from int) []byte {
	for i := from; i < len(dst); i++ {
		if unsafeByte(dst[i]) {
			tail := string(dst[i:])
			return appendSafe(dst[:i], tail)
		}
	}
	return dst
}
