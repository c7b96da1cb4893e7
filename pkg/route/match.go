package route

import "strings"

// Request is what matching looks at. The strings may lie in a buffer that is
// used again later: nothing here keeps them.
type Request struct {
	GRPC      bool
	Method    string
	Scheme    string // http or https, "" stands for http
	Authority string // host and port
	Path      string // with the query
	Fields    Fields // may be nil
}

// Fields are the header fields of a request.
type Fields interface {
	// Get returns the value of the first field of that name, which is in lower
	// case and stands for any, and whether there is one.
	Get(name string) (value string, ok bool)
}

// Verdict is what Match found.
type Verdict uint8

const (
	// Unrouted: there are no routes for such requests. They go where their
	// client wanted.
	Unrouted Verdict = iota
	// NoRule: there are routes, and the request is for none of them. It is
	// answered 404, for gRPC UNIMPLEMENTED.
	NoRule
	// Matched: Hit has a rule.
	Matched
)

// Hit is a rule that a request matched.
type Hit struct {
	Rule   *Rule
	prefix int // length of the path prefix that matched, without a slash at its end
}

// Match finds the rule for a request. gRPC calls go by gRPC routes if there are
// any, and everything else by HTTP routes: the two are not merged.
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
	if c, n := h.find(r, path, query); c != nil {
		return Hit{c.rule, n}, Matched
	}
	return Hit{}, NoRule
}

// splitPath parts a target; an empty path is the root's (RFC 9110 §4.2.3).
func splitPath(target string) (path, query string) {
	path, query, _ = strings.Cut(target, "?")
	if path == "" {
		path = "/"
	}
	return path, query
}

// maxHost is the longest DNS name.
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

// lowerHost is the authority's host in lower case and without a dot at its end;
// empty if it is too long to be one.
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

// hostOf is an authority without its port.
func hostOf(authority string) string {
	if strings.HasPrefix(authority, "[") {
		if end := strings.IndexByte(authority, ']'); end > 0 {
			return authority[:end+1]
		}
	}
	host, _, _ := strings.Cut(authority, ":")
	return host
}

// find returns the candidate that takes precedence among those that match, and
// the length of the prefix that it matched by.
func (p *paths) find(r *Request, path, query string) (*candidate, int) {
	if len(p.exact) > 0 {
		if c := p.exact[path].first(r, query); c != nil {
			return c, 0
		}
	}
	for _, c := range p.patterns {
		if c.fits(r, query) && c.fitsPattern(path) {
			return c, 0
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

// grpcMethod is the method of a path that is /service/method.
func grpcMethod(path string) (string, bool) {
	service, method, ok := strings.Cut(path[1:], "/")
	return method, ok && path[0] == '/' && service != "" && method != "" && strings.IndexByte(method, '/') < 0
}

func (l list) first(r *Request, query string) *candidate {
	for _, c := range l {
		if c.fits(r, query) {
			return c
		}
	}
	return nil
}

// fits compares everything but the path.
func (c *candidate) fits(r *Request, query string) bool {
	if c.method != "" && c.method != r.Method {
		return false
	}
	for i := range c.headers {
		if !c.headers[i].fitsHeader(r) {
			return false
		}
	}
	for i := range c.query {
		if !c.query[i].fitsQuery(query) {
			return false
		}
	}
	return true
}

// fitsPattern: the two expressions of a gRPC method are one pattern, which must
// not match across the slashes of what is no gRPC path.
func (c *candidate) fitsPattern(path string) bool {
	if c.rule.Route.GRPC {
		if _, ok := grpcMethod(path); !ok {
			return false
		}
	}
	return c.pattern.MatchString(path)
}

func (m *valueMatch) fitsHeader(r *Request) bool {
	value, ok := r.Authority, r.Authority != ""
	if m.name != "host" {
		if r.Fields == nil {
			return false
		}
		value, ok = r.Fields.Get(m.name)
	}
	if !ok {
		return false
	}
	if m.pattern != nil {
		return m.pattern.MatchString(value)
	}
	return value == m.value
}
