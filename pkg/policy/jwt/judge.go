package jwt

import (
	"slices"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Judgement is what tokens make of a request.
type Judgement struct {
	// Failure says why the request fails; Good: it does not.
	Failure Failure
	// Missing are the sources (authz.TokenRule.Source) of keys that lack the one of a
	// token.
	Missing []string
	Token   *Token // nil: there is none

	// What the application gets: the head without the fields Remove, with the fields Add
	// after that, and Target as its target unless that is "". They must not be changed.
	Remove []string
	Add    []mesh.HeaderField
	Target string
}

// maxTokens bounds the tokens of a request.
const maxTokens = 4

// Head is what of a request tokens are read from. It is used during the call only.
type Head struct {
	Path   string // as sent, with the query
	Fields authz.Fields
}

// Judge judges the tokens of a request. client is what tokens are charged to in the cache.
// With lenient a request with a token that is not good has none, and does not fail.
func Judge[C comparable](v *Verifier, h Head, cache *Cache[C], client C, now time.Time, lenient bool) Judgement {
	out := Judgement{Remove: v.remove}
	all := v.find(h)
	if len(all) == 0 {
		return out
	}
	if len(all) > maxTokens {
		return out.fails(TooMany, lenient)
	}
	var taken []place
	for i := range all {
		r, got := v.verify(&all[i], clientCache[C]{cache, client}, now, &out.Missing)
		if got.failure != Good {
			out.Add = nil
			return out.fails(got.failure, lenient)
		}
		if out.Token == nil {
			out.Token, out.Add = got.token, got.add
		}
		if !r.Forward {
			taken = append(taken, all[i].place)
		}
	}
	out.takeTokens(h, taken)
	return out
}

func (j Judgement) fails(f Failure, lenient bool) Judgement {
	out := Judgement{Remove: j.Remove, Missing: j.Missing}
	if !lenient {
		out.Failure = f
	}
	return out
}

// find returns the tokens of a request, in the order of rules and places, at most one more
// than may be there. A token that is repeated is one.
func (v *Verifier) find(h Head) (out []found) {
	for i := range v.rules {
		for _, p := range v.rules[i].places {
			p.each(h.Path, h.Fields, func(token string) bool {
				if !slices.ContainsFunc(out, func(f found) bool { return f.text == token && f.place == p }) {
					out = append(out, found{token, p})
				}
				return len(out) <= maxTokens
			})
		}
	}
	return out
}

// takeTokens removes tokens that the application does not get.
func (j *Judgement) takeTokens(h Head, places []place) {
	if len(places) == 0 {
		return
	}
	j.Remove = slices.Clip(j.Remove)
	cookies := false
	for _, p := range places {
		switch p.kind {
		case inHeader:
			if !slices.Contains(j.Remove, p.name) {
				j.Remove = append(j.Remove, p.name)
			}
		case inQuery:
			j.Target = without(h.Path, places)
		case inCookie:
			cookies = true
		}
	}
	if cookies {
		j.Remove = append(j.Remove, "cookie")
		if rest := cookiesWithout(h.Fields, places); rest != "" {
			j.Add = append(slices.Clip(j.Add), mesh.HeaderField{Name: "cookie", Value: strings.Clone(rest)})
		}
	}
}
