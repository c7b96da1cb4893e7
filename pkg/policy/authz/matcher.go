package authz

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/underlane/underlane/pkg/route"
)

// matcher is a compiled Match.
type matcher struct {
	kind  MatchKind
	value string
	fold  bool           // letters of ASCII match in any case
	re    *regexp.Regexp // Regex
	most  int            // Regex: bytes of the longest value that it is evaluated on
	parts template       // Template
	grpc  GRPCMethod     // matchGRPC
	lead  string         // what everything that it matches begins with; for the index
}

// matchGRPC matches a path of the form /service/method.
const matchGRPC MatchKind = 255

// text says what the values of a field may be.
type text struct {
	fold     bool
	template bool                 // Template may be used
	check    func(v string) error // of Exact, Prefix and Suffix values; may be nil
}

func compileMatch(m Match, t text) (matcher, error) {
	out := matcher{kind: m.Kind, value: m.Value, fold: t.fold}
	switch m.Kind {
	case Exact, Prefix, Suffix:
		if t.check != nil {
			if err := t.check(m.Value); err != nil {
				return matcher{}, err
			}
		}
		if m.Kind != Suffix {
			out.lead = m.Value
		}
	case Present:
	case Regex:
		// Compiled alone first: it must not close the group below.
		alone, err := regexp.Compile(m.Value)
		if err != nil {
			return matcher{}, fmt.Errorf("regular expression %q: %w", m.Value, err)
		}
		flags := "s"
		if t.fold {
			flags = "is"
		} else {
			out.lead, _ = alone.LiteralPrefix()
		}
		whole := "^(?" + flags + ":" + m.Value + ")$"
		if out.re, err = regexp.Compile(whole); err != nil {
			return matcher{}, fmt.Errorf("regular expression %q: %w", m.Value, err)
		}
		if out.most, err = route.LongestValue(whole); err != nil {
			return matcher{}, fmt.Errorf("regular expression %q: %w", m.Value, err)
		}
	case Template:
		if !t.template {
			return matcher{}, errors.New("a template is for paths only")
		}
		var err error
		if out.parts, err = parseTemplate(m.Value); err != nil {
			return matcher{}, err
		}
		out.lead = out.parts.head[0]
	default:
		return matcher{}, fmt.Errorf("kind of match %d is not known", m.Kind)
	}
	return out, nil
}

// unsure reports whether the value is too long to be evaluated.
func (m *matcher) unsure(s string) bool { return m.kind == Regex && len(s) > m.most }

func (m *matcher) fits(s string) bool {
	switch m.kind {
	case Exact:
		return len(s) == len(m.value) && m.equal(s, m.value)
	case Prefix:
		return len(s) >= len(m.value) && m.equal(s[:len(m.value)], m.value)
	case Suffix:
		return len(s) >= len(m.value) && m.equal(s[len(s)-len(m.value):], m.value)
	case Present:
		return s != ""
	case Regex:
		return m.re.MatchString(s)
	case Template:
		return m.parts.fits(s)
	case matchGRPC:
		service, method, ok := splitMethod(s)
		return ok && (m.grpc.Service == "" || m.grpc.Service == service) && (m.grpc.Method == "" || m.grpc.Method == method)
	}
	return false
}

// equal compares strings of the same length.
func (m *matcher) equal(a, b string) bool {
	if !m.fold {
		return a == b
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// template is a path with operators: {*} stands between the parts of head. With open,
// {**} follows the last of them, and tail after it.
type template struct {
	head []string // one at least
	open bool
	tail string
}

func parseTemplate(s string) (template, error) {
	bad := func(why string) (template, error) { return template{}, fmt.Errorf("path template %q: %s", s, why) }
	if !strings.HasPrefix(s, "/") {
		return bad("does not begin with /")
	}
	var t template
	rest, tail, open := strings.Cut(s, "{**}")
	t.open, t.tail = open, tail
	if t.open {
		if !strings.HasSuffix(rest, "/") || t.tail != "" && t.tail[0] != '/' {
			return bad("{**} is not a whole segment")
		}
	}
	t.head = strings.Split(rest, "{*}")
	for i, part := range t.head {
		if i > 0 && part != "" && part[0] != '/' || i < len(t.head)-1 && !strings.HasSuffix(part, "/") {
			return bad("{*} is not a whole segment")
		}
		if strings.ContainsAny(part, "{}") {
			return bad("there is another operator than {*} and {**}")
		}
	}
	if strings.ContainsAny(t.tail, "{}") {
		return bad("{**} is not the last operator")
	}
	return t, nil
}

func (t *template) fits(s string) bool {
	rest, ok := strings.CutPrefix(s, t.head[0])
	if !ok {
		return false
	}
	for _, part := range t.head[1:] {
		n := strings.IndexByte(rest, '/')
		if n < 0 {
			n = len(rest)
		}
		if n == 0 {
			return false
		}
		if rest, ok = strings.CutPrefix(rest[n:], part); !ok {
			return false
		}
	}
	if t.open {
		return strings.HasSuffix(rest, t.tail)
	}
	return rest == ""
}

// values is a compiled list of Match. The nil *values is a field that is not
// looked at.
type values struct {
	exact map[string]struct{} // of Exact values, where they are many
	list  []matcher
}

// manyValues is the length from which on a map of exact values is used.
const manyValues = 8

func (v *values) has(s string) bool {
	if v.exact != nil {
		if _, ok := v.exact[s]; ok {
			return true
		}
	}
	for i := range v.list {
		if v.list[i].fits(s) {
			return true
		}
	}
	return false
}

// judge reports whether s, a value that a client sends, is in v, or with want false is not. If
// s is too long for an expression, that is in doubt, and the answer is wide.
func (v *values) judge(s string, want, wide bool) bool {
	if v == nil {
		return true
	}
	if v.exact != nil {
		if _, ok := v.exact[s]; ok {
			return want
		}
	}
	doubt := false
	for i := range v.list {
		switch m := &v.list[i]; {
		case m.unsure(s):
			doubt = true
		case m.fits(s):
			return want
		}
	}
	if doubt {
		return wide
	}
	return !want
}

// leads are what the values begin with; ok is false if one of them can begin
// with anything.
func (v *values) leads(yield func(lead string, exact bool)) (ok bool) {
	for i := range v.list {
		if v.list[i].lead == "" {
			return false
		}
	}
	for value := range v.exact {
		yield(value, true)
	}
	for i := range v.list {
		yield(v.list[i].lead, v.list[i].kind == Exact)
	}
	return true
}
