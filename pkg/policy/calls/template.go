package calls

// AnyPath stands for paths that are not kept: any.
const AnyPath = "/{**}"

const (
	maxPath    = 160 // bytes of a template
	maxSegment = 40  // bytes of a segment that is kept
	maxDepth   = 12  // segments
)

// template writes the template of a path, without its query, to buf: segments that look like
// the name of one thing (numbers, UUIDs, hashes, addresses) become {*}, as they do in the
// templates of pkg/policy/authz. It returns AnyPath for a path that is too long, or that
// servers may read in more than one way.
func template(buf *[maxPath]byte, path string) string {
	out := buf[:0]
	if path == "" || path[0] != '/' {
		return AnyPath
	}
	depth := 0
	for i := 1; ; {
		end := i
		for end < len(path) && path[end] != '/' && path[end] != '?' {
			end++
		}
		segment := path[i:end]
		kind := classify(segment)
		if depth++; depth > maxDepth || kind == odd || len(out)+1+min(len(segment), maxSegment) > maxPath {
			return AnyPath
		}
		out = append(out, '/')
		if kind == identifier {
			if len(out)+3 > maxPath {
				return AnyPath
			}
			out = append(out, "{*}"...)
		} else {
			out = append(out, segment...)
		}
		if end == len(path) || path[end] == '?' {
			return unsafeString(out)
		}
		i = end + 1
		if segment == "" {
			return AnyPath // a double slash
		}
	}
}

type segmentKind uint8

const (
	word segmentKind = iota
	identifier
	odd // not read in one way by all servers
)

// classify tells words, which programs have few of, from the names of single things. A
// segment is an identifier if it is a number, long, has several digits, or has characters that
// words of a program do not have.
func classify(s string) segmentKind {
	if s == "." || s == ".." {
		return odd
	}
	digits, letters, other := 0, 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			digits++
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			letters++
		case c == '-', c == '_', c == '.', c == '~':
		case c == '\\', c < ' ', c >= 0x7f:
			return odd
		case c == '%', c == '{', c == '}', c == ';':
			return odd
		default:
			other++
		}
	}
	switch {
	case s == "":
		return word
	case len(s) > maxSegment, other > 0, digits > 0 && letters == 0, digits > 3, digits > 1 && len(s) >= 16:
		return identifier
	}
	return word
}
