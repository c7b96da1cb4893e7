package istiopolicy

import (
	"regexp"

	"github.com/underlane/underlane/pkg/controller/policyobject"
	"github.com/underlane/underlane/pkg/policy/authz"
)

type requestSpec struct {
	Selector   *selector   `json:"selector"`
	TargetRef  *targetRef  `json:"targetRef"`
	TargetRefs []targetRef `json:"targetRefs"`
	JWTRules   []TokenRule `json:"jwtRules"`
}

// TokenRule says which tokens are good: a JWTRule of Istio, as it is. Something that verifies
// tokens by it sets Principal and Claims of authz.Request for a good token.
type TokenRule struct {
	Issuer                string            `json:"issuer"`
	Audiences             []string          `json:"audiences"`
	JWKSURI               string            `json:"jwksUri"`
	JWKS                  string            `json:"jwks"`
	FromHeaders           []TokenHeader     `json:"fromHeaders"`
	FromParams            []string          `json:"fromParams"`
	FromCookies           []string          `json:"fromCookies"`
	OutputPayloadToHeader string            `json:"outputPayloadToHeader"`
	ForwardOriginalToken  bool              `json:"forwardOriginalToken"`
	OutputClaimToHeaders  []TokenClaimField `json:"outputClaimToHeaders"`
	Timeout               string            `json:"timeout"`
	SpaceDelimitedClaims  []string          `json:"spaceDelimitedClaims"`
}

// TokenHeader is a header field that has a token, after a prefix.
type TokenHeader struct {
	Name   string `json:"name"`
	Prefix string `json:"prefix"`
}

// TokenClaimField is a header field that a claim is copied to.
type TokenClaimField struct {
	Header string `json:"header"`
	Claim  string `json:"claim"`
}

// request is a RequestAuthentication, translated. A request with a token that is not good has
// no principal: deny refuses it where the token is in a header field. In other places
// such a token counts as none, which the client could have sent as well.
type request struct {
	deny   authz.Policy
	tokens []TokenRule
}

// maxTokenRules is Istio's bound.
const maxTokenRules = 4096

func (o *Object) readRequest(object []byte) {
	spec, unknown := policyobject.Read[requestSpec](object)
	r := &request{deny: authz.Policy{Name: o.String(), Action: authz.ActionDeny}, tokens: spec.JWTRules}
	o.request = r
	doubts := append(unknown.All(), o.readScope(spec.Selector, spec.TargetRef, spec.TargetRefs)...)
	if len(spec.JWTRules) > maxTokenRules {
		doubts, spec.JWTRules = append(doubts, "spec.jwtRules: with too many elements"), spec.JWTRules[:maxTokenRules]
	}
	for i := range spec.JWTRules {
		if rule := &spec.JWTRules[i]; rule.Issuer == "" || rule.JWKS != "" && rule.JWKSURI != "" {
			doubts = append(doubts, "spec.jwtRules: one without an issuer, or with both jwks and jwksUri")
			break
		}
	}
	type place struct{ name, prefix string }
	seen := map[place]bool{}
	add := func(name, prefix string) {
		if at := (place{lower(name), prefix}); !seen[at] {
			seen[at] = true
			r.deny.Rules = append(r.deny.Rules, bad(at.name, at.prefix))
		}
	}
	elsewhere := false
	for i := range spec.JWTRules {
		rule := &spec.JWTRules[i]
		for _, h := range rule.FromHeaders {
			add(h.Name, h.Prefix)
		}
		elsewhere = elsewhere || len(rule.FromParams)+len(rule.FromCookies) > 0
		if len(rule.FromHeaders)+len(rule.FromParams)+len(rule.FromCookies) == 0 {
			add("authorization", "Bearer ")
		}
	}
	if elsewhere {
		o.problem("spec.jwtRules", "fromParams and fromCookies: a bad token there is not refused, it counts as none")
	}
	if len(doubts) > 0 { // no token is good
		r.tokens = nil
		add("authorization", "Bearer ")
	}
	for _, d := range doubts {
		o.problem(d, "is not known: no token is good")
	}
	var problems []authz.Problem
	o.Requests, problems = authz.Check(&r.deny, "")
	o.Problems = append(o.Problems, problems...)
}

// bad matches requests that have a token in a header field, and no principal.
func bad(name, prefix string) authz.Rule {
	return authz.Rule{
		From: []authz.Source{{NotRequestPrincipals: []authz.Match{{Kind: authz.Present}}}},
		When: []authz.Condition{{
			Kind: authz.ConditionHeader, Name: name,
			Values: []authz.Match{{Kind: authz.Regex, Value: ".*" + regexp.QuoteMeta(prefix) + ".*"}},
		}},
	}
}

// Tokens returns what tokens are good for a workload. Without any, there are none to verify.
func (o *Objects) Tokens(w *Workload) (out []TokenRule) {
	for _, object := range o.covering(w) {
		if object.request != nil {
			out = append(out, object.request.tokens...)
		}
	}
	return out
}
