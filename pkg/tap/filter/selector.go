package filter

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
)

// Selector selects pods by their labels, in the language of kubectl's -l: app=web,
// tier!=db, track in (a, b), track notin (c), canary, !canary, version>2. All of it must hold.
// The empty Selector selects every pod.
//
// The agent reads it itself, because k8s.io/apimachinery is no part of it.
type Selector []requirement

type requirement struct {
	key    string
	op     operator
	values []string
	number int64 // of greater and less
}

type operator int

const (
	exists operator = iota
	missing
	in
	notIn
	greater
	less
)

// ParseSelector reads a selector. Its errors are written for users.
func ParseSelector(text string) (Selector, error) {
	p := &selectorParser{rest: text}
	p.next()
	if p.token == "" {
		return nil, nil
	}
	var s Selector
	for {
		r, err := p.requirement()
		if err != nil {
			return nil, fmt.Errorf("selector %q: %w", text, err)
		}
		s = append(s, r)
		switch p.token {
		case "":
			return s, nil
		case ",":
			p.next()
		default:
			return nil, fmt.Errorf("selector %q: %q where a comma is expected", text, p.token)
		}
	}
}

// Matches reports whether labels are selected. It allocates nothing.
func (s Selector) Matches(labels mesh.Labels) bool {
	for i := range s {
		if !s[i].matches(labels) {
			return false
		}
	}
	return true
}

func (r *requirement) matches(labels mesh.Labels) bool {
	value, has := labels.Get(r.key)
	switch r.op {
	case exists:
		return has
	case missing:
		return !has
	case in:
		return has && slices.Contains(r.values, value)
	case notIn:
		return !has || !slices.Contains(r.values, value)
	}
	n, err := strconv.ParseInt(value, 10, 64)
	return has && err == nil && (r.op == greater && n > r.number || r.op == less && n < r.number)
}

// selectorParser reads tokens: the marks = == != ! < > ( ) and the comma, and words.
type selectorParser struct{ rest, token string }

const marks = "=!<>(),"

func (p *selectorParser) next() {
	p.rest = strings.TrimLeft(p.rest, " \t\r\n")
	n := strings.IndexAny(p.rest, marks+" \t\r\n")
	switch {
	case strings.HasPrefix(p.rest, "=="), strings.HasPrefix(p.rest, "!="):
		n = 2
	case n == 0:
		n = 1
	case n < 0:
		n = len(p.rest)
	}
	p.token, p.rest = p.rest[:n], p.rest[n:]
}

func (p *selectorParser) isWord() bool { return p.token != "" && !strings.ContainsAny(p.token, marks) }

func (p *selectorParser) requirement() (r requirement, err error) {
	if p.token == "!" {
		r.op = missing
		p.next()
	}
	if !p.isWord() || !validKey(p.token) {
		return r, fmt.Errorf("%q is no key of a label", p.token)
	}
	r.key = p.token
	p.next()
	if r.op == missing || p.token == "" || p.token == "," {
		return r, nil
	}
	op := p.token
	p.next()
	switch op {
	case "=", "==", "!=":
		r.op = in
		if op == "!=" {
			r.op = notIn
		}
		r.values = []string{p.word()}
	case "in", "notin":
		r.op = in
		if op == "notin" {
			r.op = notIn
		}
		if r.values, err = p.list(); err != nil {
			return r, err
		}
	case ">", "<":
		r.op = greater
		if op == "<" {
			r.op = less
		}
		word := p.word()
		if r.number, err = strconv.ParseInt(word, 10, 64); err != nil {
			return r, fmt.Errorf("%s%s wants a number", r.key, op)
		}
		r.values = []string{word}
	default:
		return r, fmt.Errorf("%q after %s: use = != in notin > or <", op, r.key)
	}
	for _, value := range r.values {
		if value != "" && !validLabel(value) {
			return r, fmt.Errorf("%q is no value of a label", value)
		}
	}
	return r, nil
}

// word reads a value, which may be empty.
func (p *selectorParser) word() (word string) {
	if p.isWord() {
		word = p.token
		p.next()
	}
	return word
}

// list reads (a, b, …). A value may be empty.
func (p *selectorParser) list() (values []string, err error) {
	if p.token != "(" {
		return nil, errors.New("in and notin want (values)")
	}
	for p.next(); ; p.next() {
		values = append(values, p.word())
		switch p.token {
		case ")":
			p.next()
			return values, nil
		case ",":
		default:
			return nil, fmt.Errorf("%q in a list of values", p.token)
		}
	}
}

// validKey reports whether a label can have this key: a name, after the DNS name of its owner
// and a slash or not.
func validKey(key string) bool {
	owner, name, ok := strings.Cut(key, "/")
	if !ok {
		return validLabel(key)
	}
	return len(owner) <= maxName && validLabel(name) && !slices.ContainsFunc(strings.Split(owner, "."), func(part string) bool {
		return part == "" || !word(part, "-", false) || strings.HasPrefix(part, "-") || strings.HasSuffix(part, "-")
	})
}

// validLabel reports whether a name or a value that is not empty is valid in a label.
func validLabel(text string) bool {
	return text != "" && len(text) <= 63 && word(text, "-_.", true) && !strings.ContainsAny(text[:1]+text[len(text)-1:], "-_.")
}

// word reports whether text has letters, digits and more only. Capitals count if upper is set.
func word(text, more string, upper bool) bool {
	for i := range len(text) {
		c := text[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || upper && 'A' <= c && c <= 'Z' || strings.IndexByte(more, c) >= 0) {
			return false
		}
	}
	return true
}
