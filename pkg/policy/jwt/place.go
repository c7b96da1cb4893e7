package jwt

import (
	"net/url"
	"strings"

	"github.com/underlane/underlane/pkg/policy/authz"
)

// found is a token in a request.
type found struct {
	text  string
	place place
}

// each yields the tokens at a place, at most until yield returns false.
func (p *place) each(path string, fields authz.Fields, yield func(token string) bool) {
	switch p.kind {
	case inHeader:
		each := func(value string) bool {
			token, ok := p.after(value)
			return !ok || yield(token)
		}
		if lines(fields, p.name, each) && fields != nil {
			for value, next, ok := fields.Alike(p.name, 0); ok && each(value); {
				value, next, ok = fields.Alike(p.name, next)
			}
		}
	case inQuery:
		_, query, _ := strings.Cut(path, "?")
		query, _, _ = strings.Cut(query, "#")
		for pair := range strings.SplitSeq(query, "&") {
			if value, ok := p.parameter(pair); ok && value != "" && !yield(value) {
				return
			}
		}
	case inCookie:
		lines(fields, "cookie", func(value string) bool {
			for pair := range strings.SplitSeq(value, ";") {
				if token, ok := p.cookie(pair); ok && token != "" && !yield(token) {
					return false
				}
			}
			return true
		})
	}
}

// lines yields the values of a header field. It reports whether yield has returned true for all.
func lines(fields authz.Fields, name string, yield func(value string) bool) bool {
	if fields == nil {
		return true
	}
	for value, next, ok := fields.Next(name, 0); ok; value, next, ok = fields.Next(name, next) {
		if !yield(value) {
			return false
		}
	}
	return true
}

// after returns what follows the prefix, which is compared in any case of letters as the
// name of a scheme is (RFC 9110 §11.1).
func (p *place) after(value string) (token string, ok bool) {
	value = strings.Trim(value, " \t")
	n := len(p.prefix)
	if n > len(value) || !strings.EqualFold(value[:n], p.prefix) {
		return "", false
	}
	token = strings.TrimLeft(value[n:], " \t")
	return token, token != ""
}

// parameter returns the value of a part of a query if it is the place.
func (p *place) parameter(pair string) (value string, ok bool) {
	name, value, _ := strings.Cut(pair, "=")
	if name != p.name {
		if len(name) > 3*len(p.name) || !strings.ContainsAny(name, "%+") {
			return "", false
		}
		if decoded, err := url.QueryUnescape(name); err != nil || decoded != p.name {
			return "", false
		}
	}
	if strings.ContainsAny(value, "%+") {
		if decoded, err := url.QueryUnescape(value); err == nil {
			value = decoded
		}
	}
	return value, true
}

// cookie returns the value of a pair of the field Cookie if it is the place (RFC 6265
// §4.2.1).
func (p *place) cookie(pair string) (value string, ok bool) {
	name, value, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
	if !ok || strings.TrimRight(name, " \t") != p.name {
		return "", false
	}
	return strings.Trim(strings.Trim(value, " \t"), `"`), true
}

// without returns the target without the parameters at the places.
func without(path string, places []place) string {
	before, query, _ := strings.Cut(path, "?")
	query, fragment, hasFragment := strings.Cut(query, "#")
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if !at(places, inQuery, func(p *place) bool { _, ok := p.parameter(pair); return ok }) {
			kept = append(kept, pair)
		}
	}
	if len(kept) > 0 {
		before += "?" + strings.Join(kept, "&")
	}
	if hasFragment {
		before += "#" + fragment
	}
	return before
}

// cookiesWithout returns the cookies that are not at the places, as one field.
func cookiesWithout(fields authz.Fields, places []place) string {
	var kept []string
	lines(fields, "cookie", func(value string) bool {
		for pair := range strings.SplitSeq(value, ";") {
			pair = strings.Trim(pair, " \t")
			if pair != "" && !at(places, inCookie, func(p *place) bool { _, ok := p.cookie(pair); return ok }) {
				kept = append(kept, pair)
			}
		}
		return true
	})
	return strings.Join(kept, "; ")
}

func at(places []place, kind placeKind, is func(*place) bool) bool {
	for i := range places {
		if places[i].kind == kind && is(&places[i]) {
			return true
		}
	}
	return false
}
