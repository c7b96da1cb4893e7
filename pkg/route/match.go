package route

import "strings"

// Request holds the parts of a request that matching looks at. The strings may
// point into a buffer that is reused later: this package does not keep them.
type Request struct {
	GRPC      bool
	Method    string
	Scheme    string // http or https; "" means http
	Authority string // host and port
	Path      string // with the query
	Fields    Fields // may be nil
}

// Fields are the header fields of a request.
type Fields interface {
	// Get returns the value of the first field with that name, and whether there
	// is one. The name is given in lower case and matches fields in any case.
	Get(name string) (value string, ok bool)
}

// Verdict is what Match found.
type Verdict uint8

const (
	// Unrouted: there are no routes for such requests. They go to the
	// destination that the client asked for.
	Unrouted Verdict = iota
	// NoRule: there are routes, and none of their rules matches. The request is
	// answered 404, for gRPC UNIMPLEMENTED.
	NoRule
	// Matched: Hit has a rule.
	Matched
	// Doubt: a value is too long for a regular expression, so that it is not known which rule
	// matches. The request is refused.
	Doubt
)

// Hit is a rule that a request matched.
type Hit struct {
	Rule   *Rule
	prefix int // length of the path prefix that matched, without a trailing slash
}

// Match finds the rule for a request. gRPC calls are matched with gRPC routes if
// there are any; all other requests with HTTP routes. The two are not merged.
func (t *Table) Match(r *Request) (Hit, Verdict) {
	if t == nil {
		return Hit{}, Unrouted
	}
	h := t.http
	if r.GRPC && t.grpc != nil {
		h = t.grpc
	}
	if h == nil {
		return Hit{}, Unrouted
	}
	path, query := splitPath(r.Path)
	switch c, n := h.find(r, path, query); c {
	case nil:
		return Hit{}, NoRule
	case inDoubt:
		return Hit{}, Doubt
	default:
		return Hit{c.rule, n}, Matched
	}
}

// splitPath splits a request target. An empty path is the same as "/" (RFC 9110
// §4.2.3).
func splitPath(target string) (path, query string) {
	path, query, _ = strings.Cut(target, "?")
	if path == "" {
		path = "/"
	}
	return path, query
}

// inDoubt is found where it is not known whether a candidate matches.
var inDoubt = new(candidate)

// maxHost is the length of the longest DNS name, in bytes.
const maxHost = 253

func (h *hosts) find(r *Request, path, query string) (*candidate, int) {
	if len(h.exact) > 0 || len(h.wild) > 0 {
		var buf [maxHost]byte
		name := lowerHost(&buf, r.Authority)
		// m[string(bytes)] does not allocate.
		if p := h.exact[string(name)]; p != nil {
			if c, n := p.find(r, path, query); c != nil {
				return c, n
			}
		}
		for i := 1; i < len(name) && len(h.wild) > 0; i++ {
			if name[i] != '.' {
				continue
			}
			if p := h.wild[string(name[i:])]; p != nil {
				if c, n := p.find(r, path, query); c != nil {
					return c, n
				}
			}
		}
	}
	return h.any.find(r, path, query)
}

// lowerHost returns the authority's host in lower case and without a trailing
// dot. It returns nil if the host is too long for a DNS name.
func lowerHost(buf *[maxHost]byte, authority string) []byte {
	host := strings.TrimSuffix(hostOf(authority), ".")
	if len(host) > len(buf) {
		return nil
	}
	for i := range len(host) {
		c := host[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		buf[i] = c
	}
	return buf[:len(host)]
}

// hostOf returns an authority without its port. It returns "" for an IPv6 address without
// brackets, as some clients of HTTP/2 send it: such an address and its port cannot be
// separated.
func hostOf(authority string) string {
	if strings.HasPrefix(authority, "[") {
		if end := strings.IndexByte(authority, ']'); end > 0 {
			return authority[:end+1]
		}
	}
	host, port, _ := strings.Cut(authority, ":")
	if strings.Contains(port, ":") {
		return ""
	}
	return host
}

// find returns the matching candidate with the highest precedence, and the
// length of the path prefix that it matched. It returns inDoubt if that one may be another.
func (p *paths) find(r *Request, path, query string) (*candidate, int) {
	for _, c := range p.unknown {
		if !below(path, c.path) {
			continue
		}
		if found := c.found(c.fits(r, query)); found != nil {
			return found, 0
		}
	}
	if len(p.exact) > 0 {
		if c := p.exact[path].first(r, query); c != nil {
			return c, 0
		}
	}
	for _, c := range p.patterns {
		if found := c.found(c.fits(r, query).and(c.fitsPattern(path))); found != nil {
			return found, 0
		}
	}
	for _, n := range p.lengths {
		if n > len(path) || n < len(path) && path[n] != '/' {
			continue
		}
		if c := p.prefixes[path[:n]].first(r, query); c != nil {
			return c, n
		}
	}
	if len(p.methods) > 0 {
		if method, ok := grpcMethod(path); ok {
			if c := p.methods[method].first(r, query); c != nil {
				return c, 0
			}
		}
	}
	return p.rest.first(r, query), 0
}

// below reports whether a path begins with the elements of prefix, which does not end with a slash.
func below(path, prefix string) bool {
	return strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// grpcMethod returns the method of a path of the form /service/method.
func grpcMethod(path string) (string, bool) {
	service, method, ok := strings.Cut(path[1:], "/")
	return method, ok && path[0] == '/' && service != "" && method != "" && strings.IndexByte(method, '/') < 0
}

func (l list) first(r *Request, query string) *candidate {
	for _, c := range l {
		if found := c.found(c.fits(r, query)); found != nil {
			return found
		}
	}
	return nil
}

// found returns the candidate if it matches, and inDoubt if it may match.
func (c *candidate) found(f fit) *candidate {
	switch f {
	case yes:
		return c
	case unsure:
		return inDoubt
	}
	return nil
}

// fits reports whether everything except the path matches.
func (c *candidate) fits(r *Request, query string) fit {
	if c.method != "" && c.method != r.Method {
		return no
	}
	out := yes
	for i := range c.headers {
		if out = out.and(c.headers[i].fitsHeader(r)); out == no {
			return no
		}
	}
	for i := range c.query {
		if out = out.and(c.query[i].fitsQuery(query)); out == no {
			return no
		}
	}
	return out
}

// fitsPattern reports whether the path matches the regular expression. The
// expressions for a gRPC service and method are one pattern, which must not match
// a path with other slashes than those of /service/method.
func (c *candidate) fitsPattern(path string) fit {
	if c.rule.Route.GRPC {
		if _, ok := grpcMethod(path); !ok {
			return no
		}
	}
	return c.pattern.judge(path)
}

func (m *valueMatch) fitsHeader(r *Request) fit {
	if m.unknown {
		return yes
	}
	value, ok := r.Authority, r.Authority != ""
	if m.name != "host" {
		if r.Fields == nil {
			return no
		}
		value, ok = r.Fields.Get(m.name)
	}
	if !ok {
		return no
	}
	if m.pattern != nil {
		return m.pattern.judge(value)
	}
	return fits(value == m.value)
}
