package authz

import (
	"slices"
	"strings"
)

// maxReadings is how many readings a path has at most.
const maxReadings = 3

// readings are the ways in which a server may read a path: as it is sent, normalised, and
// normalised without parameters. Mostly they are one.
type readings struct {
	of [maxReadings]string
	n  int
	// bare is the place of the reading without parameters; 0: there is none.
	bare int
}

func readPath(target string) readings {
	path, _, _ := strings.Cut(target, "?")
	if path == "" {
		path = "/" // RFC 9110 §4.2.3
	}
	out := readings{of: [maxReadings]string{path}, n: 1}
	if !isNormal(path) {
		out.add(normalise(path))
	}
	if strings.IndexByte(path, ';') >= 0 {
		if before := out.n; out.add(normalise(withoutParameters(path))) {
			out.bare = before
		}
	}
	return out
}

func (r *readings) add(path string) bool {
	if slices.Contains(r.of[:r.n], path) {
		return false
	}
	r.of[r.n] = path
	r.n++
	return true
}

// withoutParameters returns the path without the parameters of its segments: what follows a
// semicolon (RFC 3986 §3.3). Servlet containers remove them before they decode a path, so that
// they read /public/..;/admin as /admin.
func withoutParameters(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	return strings.Join(segments, "/")
}

// Paths returns the ways in which a server may read the request's path, without its query:
// as it is sent, normalised, and normalised without parameters. n is their number, 1 to 3.
func (r *Request) Paths() (of [maxReadings]string, n int) {
	p := readPath(r.Path)
	return p.of, p.n
}

// Host returns the request's authority without its port. If clear is false, servers may read
// different hosts in it.
func (r *Request) Host() (host string, clear bool) { return readHost(r.Authority) }

// isNormal reports whether normalise leaves the path as it is. It may err on the
// side of false.
func isNormal(path string) bool {
	for i := range len(path) {
		switch path[i] {
		case '%', '\\':
			return false
		case '/':
			rest := path[i+1:]
			if strings.HasPrefix(rest, "/") || strings.HasPrefix(rest, "..") || rest == "." || strings.HasPrefix(rest, "./") {
				return false
			}
		}
	}
	return true
}

// normalise returns the path with percent-encoding decoded, backslashes as slashes,
// runs of slashes as one, and dot segments removed (RFC 3986 §5.2.4, §6.2.2). A
// percent sign that encodes nothing stays.
func normalise(path string) string {
	path = strings.ReplaceAll(decode(path), `\`, "/")
	var out []string
	segments := strings.Split(path, "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".", "..":
			if s == ".." && len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		case "":
			if last && i > 0 {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return "/" + strings.Join(out, "/")
}

func decode(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if high, ok := hex(s[i+1]); ok {
				if low, ok := hex(s[i+2]); ok {
					out = append(out, high<<4|low)
					i += 2
					continue
				}
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

func hex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= lower(c) && lower(c) <= 'f':
		return lower(c) - 'a' + 10, true
	}
	return 0, false
}

// readHost returns an authority without its port. For an IPv6 address without brackets
// it returns the whole: address and port cannot be told apart. clear is false for
// what is not an authority, of which servers may make different hosts (RFC 3986
// §3.2; RFC 9110 §4.2.4 wants no user in it), and for none: a server then takes the host that
// it has for such requests of HTTP/1.0.
func readHost(authority string) (host string, clear bool) {
	host, port := authority, ""
	if strings.HasPrefix(authority, "[") {
		end := strings.IndexByte(authority, ']')
		if end < 0 {
			return authority, false
		}
		host, port = authority[:end+1], authority[end+1:]
		return host, only(host[1:end], ipv6) && (port == "" || port[0] == ':' && only(port[1:], digits))
	}
	if before, after, ok := strings.Cut(authority, ":"); ok {
		if strings.Contains(after, ":") {
			return authority, only(authority, ipv6)
		}
		host, port = before, after
	}
	return strings.TrimSuffix(host, "."), host != "" && !strings.ContainsAny(host, "@[]/\\%") && only(port, digits)
}

const (
	digits = "0123456789"
	ipv6   = digits + "abcdefABCDEF:."
)

func only(s, of string) bool {
	for i := range len(s) {
		if strings.IndexByte(of, s[i]) < 0 {
			return false
		}
	}
	return true
}

// splitMethod splits a path of the form /service/method.
func splitMethod(path string) (service, method string, ok bool) {
	if !strings.HasPrefix(path, "/") {
		return "", "", false
	}
	service, method, ok = strings.Cut(path[1:], "/")
	return service, method, ok && service != "" && method != "" && strings.IndexByte(method, '/') < 0
}
