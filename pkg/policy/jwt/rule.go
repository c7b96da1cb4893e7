package jwt

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/route"
)

// Verifier judges the tokens of requests to one workload. It is immutable and safe for
// concurrent use.
type Verifier struct {
	rules  []rule
	remove []string // header fields that the rules fill
	// issuers are those of all rules: see ambiguous.
	issuers []string
}

// rule is a compiled authz.TokenRule.
type rule struct {
	*authz.TokenRule
	keys    *keySet
	places  []place
	claims  []authz.TokenCopy // with names in lower case
	payload string            // PayloadHeader in lower case
	spaced  []string
	mark    [sha256.Size]byte // differs from that of each rule by which another verdict is possible
	dead    bool              // not understood: no token is good
}

// placeKind says where in a request a place is.
type placeKind uint8

const (
	inHeader placeKind = iota
	inQuery
	inCookie
)

// place is where a token may be.
type place struct {
	kind         placeKind
	name, prefix string
}

var defaultPlaces = []place{{inHeader, "authorization", "Bearer "}, {inQuery, "access_token", ""}}

// Bounds of the rules of a workload. What is over them makes no token good.
const (
	MaxRules  = 64
	maxList   = 64   // elements of a list of a rule
	maxString = 4096 // bytes
)

// Compile compiles rules. The Verifier is valid whatever the problems are: by a rule with a
// problem no token is good.
func Compile(rules []authz.TokenRule) (*Verifier, []authz.Problem) {
	v := &Verifier{}
	var problems []authz.Problem
	for i := range rules {
		r := rule{TokenRule: &rules[i], spaced: slices.Concat([]string{"scope", "permission"}, rules[i].SpaceDelimited)}
		fail := func(field string, err error) {
			r.dead = true
			problems = append(problems, authz.Problem{Policy: r.Policy, Field: field, Text: err.Error() + ": no token is good"})
		}
		if i >= MaxRules {
			fail("jwtRules", fmt.Errorf("more than %d rules for a workload", MaxRules))
		}
		if r.Issuer == "" {
			fail("issuer", errors.New("is empty"))
		}
		for _, n := range []int{len(r.Audiences), len(r.Headers), len(r.Params), len(r.Cookies), len(r.ClaimHeaders), len(r.SpaceDelimited)} {
			if n > maxList {
				fail("jwtRules", fmt.Errorf("a list of more than %d elements", maxList))
			}
		}
		var err error
		if r.keys, err = newKeySet(r.Keys); err != nil {
			fail("jwks", err)
		}
		r.readPlaces(fail)
		r.readOutput(fail)
		for _, name := range r.fills() {
			if !slices.Contains(v.remove, name) {
				v.remove = append(v.remove, name)
			}
		}
		v.rules, v.issuers = append(v.rules, r), append(v.issuers, r.Issuer)
	}
	for i := range v.rules { // strings are quoted: two rules cannot look alike
		v.rules[i].mark = sha256.Sum256(fmt.Appendf(nil, "%#v%q%v", rules[i], v.issuers, v.rules[i].dead))
	}
	return v, problems
}

func (r *rule) readPlaces(fail func(string, error)) {
	for _, h := range r.Headers {
		name := strings.ToLower(h.Name)
		if err := route.CheckHeader(name, strings.TrimSpace(h.Prefix)); err != nil {
			fail("fromHeaders", err)
			continue
		}
		r.places = append(r.places, place{inHeader, name, h.Prefix})
	}
	for _, name := range r.Params {
		if name == "" || len(name) > maxString {
			fail("fromParams", errors.New("a name is empty or too long"))
			continue
		}
		r.places = append(r.places, place{inQuery, name, ""})
	}
	for _, name := range r.Cookies {
		if name == "" || len(name) > maxString || strings.ContainsAny(name, "=; \t") {
			fail("fromCookies", fmt.Errorf("%.50q is no name of a cookie", name))
			continue
		}
		r.places = append(r.places, place{inCookie, name, ""})
	}
	if len(r.Headers)+len(r.Params)+len(r.Cookies) == 0 {
		r.places = defaultPlaces
	}
}

func (r *rule) readOutput(fail func(string, error)) {
	check := func(field, name string) string {
		name = strings.ToLower(name)
		err := route.CheckHeader(name, "")
		if err == nil && strings.HasPrefix(name, "underlane-") {
			err = fmt.Errorf("header %q is the mesh's own", name)
		}
		if err != nil {
			fail(field, err)
			return ""
		}
		return name
	}
	if r.PayloadHeader != "" {
		r.payload = check("outputPayloadToHeader", r.PayloadHeader)
	}
	for _, c := range r.ClaimHeaders {
		if name := check("outputClaimToHeaders", c.Header); name != "" && len(c.Claim) > 0 {
			r.claims = append(r.claims, authz.TokenCopy{Header: name, Claim: c.Claim})
		} else if len(c.Claim) == 0 {
			fail("outputClaimToHeaders", errors.New("a claim has no name"))
		}
	}
}

// fills are the header fields that the rule sets.
func (r *rule) fills() (out []string) {
	if r.payload != "" {
		out = append(out, r.payload)
	}
	for _, c := range r.claims {
		out = append(out, c.Header)
	}
	return out
}

// ambiguous reports whether the principal of a subject can be read as one of another
// issuer of the workload: issuers and subjects may have slashes.
func (v *Verifier) ambiguous(issuer, principal string) bool {
	return slices.ContainsFunc(v.issuers, func(other string) bool {
		return len(other) > len(issuer) && strings.HasPrefix(principal, other+"/")
	})
}
