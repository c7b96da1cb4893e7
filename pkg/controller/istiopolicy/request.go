package istiopolicy

import (
	"slices"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/controller/jwks"
	"github.com/underlane/underlane/pkg/controller/policyobject"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/jwt"
)

type requestSpec struct {
	Selector   *selector   `json:"selector"`
	TargetRef  *targetRef  `json:"targetRef"`
	TargetRefs []targetRef `json:"targetRefs"`
	JWTRules   []tokenRule `json:"jwtRules"`
}

// tokenRule is a JWTRule.
type tokenRule struct {
	Issuer                string            `json:"issuer"`
	Audiences             []string          `json:"audiences"`
	JWKSURI               string            `json:"jwksUri"`
	JWKSURIOld            string            `json:"jwks_uri"`
	JWKS                  string            `json:"jwks"`
	FromHeaders           []tokenHeader     `json:"fromHeaders"`
	FromParams            []string          `json:"fromParams"`
	FromCookies           []string          `json:"fromCookies"`
	OutputPayloadToHeader string            `json:"outputPayloadToHeader"`
	ForwardOriginalToken  bool              `json:"forwardOriginalToken"`
	OutputClaimToHeaders  []tokenClaimField `json:"outputClaimToHeaders"`
	Timeout               string            `json:"timeout"`
	SpaceDelimitedClaims  []string          `json:"spaceDelimitedClaims"`
}

type tokenHeader struct {
	Name   string `json:"name"`
	Prefix string `json:"prefix"`
}

type tokenClaimField struct {
	Header string `json:"header"`
	Claim  string `json:"claim"`
}

// readRequest reads a RequestAuthentication. Where something of it is not understood, no token
// is good by any of its rules: without an issuer none is. A request with a token is refused
// then.
func (o *Object) readRequest(object []byte) {
	spec, unknown := policyobject.Read[requestSpec](object)
	doubts := append(unknown.All(), o.readScope(spec.Selector, spec.TargetRef, spec.TargetRefs)...)
	if o.widen(&unknown); unknown.Broken {
		// A token may be where nobody looks for it, and the application would take it for a
		// verified one.
		o.refuses = true
		o.problem("spec", "cannot be read: nothing is let in")
	}
	for i := range spec.JWTRules {
		if len(o.tokens) == jwt.MaxRules {
			doubts = append(doubts, "spec.jwtRules: with too many elements")
			break
		}
		o.tokens = append(o.tokens, o.readToken(&spec.JWTRules[i]))
	}
	_, problems := jwt.Compile(o.tokens)
	o.Problems = append(o.Problems, problems...)
	for _, d := range doubts {
		o.problem(d, "is not known: no token is good")
	}
	if len(doubts) > 0 {
		for i := range o.tokens {
			o.tokens[i].Issuer, o.tokens[i].Keys, o.tokens[i].Source = "", "", ""
		}
		if len(o.tokens) == 0 {
			o.tokens = []authz.TokenRule{{Policy: o.String()}}
		}
	}
}

// readToken reads one rule. One without good keys stays: a token for it is refused.
func (o *Object) readToken(in *tokenRule) authz.TokenRule {
	out := authz.TokenRule{
		Policy: o.String(), Issuer: in.Issuer, Audiences: in.Audiences, Params: in.FromParams, Cookies: in.FromCookies,
		Forward: in.ForwardOriginalToken, PayloadHeader: in.OutputPayloadToHeader, SpaceDelimited: in.SpaceDelimitedClaims,
	}
	for _, h := range in.FromHeaders {
		out.Headers = append(out.Headers, authz.TokenHeader{Name: h.Name, Prefix: h.Prefix})
	}
	for _, c := range in.OutputClaimToHeaders {
		to := authz.TokenCopy{Header: c.Header}
		if c.Claim != "" {
			to.Claim = strings.Split(c.Claim, ".")
		}
		out.ClaimHeaders = append(out.ClaimHeaders, to)
	}
	if in.Timeout != "" {
		timeout, err := time.ParseDuration(in.Timeout)
		switch {
		case err != nil || timeout <= 0:
			o.problem("spec.jwtRules.timeout", "%q is no duration: it is %s", in.Timeout, jwks.Timeout)
		case timeout > jwks.MaxTimeout:
			o.problem("spec.jwtRules.timeout", "%q is too long: it is %s", in.Timeout, jwks.MaxTimeout)
		}
		out.Timeout = min(max(timeout, 0), jwks.MaxTimeout)
	}
	source := in.JWKSURI
	if source == "" {
		source = in.JWKSURIOld
	}
	switch {
	case in.JWKS != "" && source != "":
		o.problem("spec.jwtRules", "one with both jwks and jwksUri: no token is good")
	case in.JWKS != "":
		keys, others, err := jwt.PublicKeys([]byte(in.JWKS))
		if err != nil {
			o.problem("spec.jwtRules.jwks", "%v: no token is good", err)
		} else if others > 0 {
			o.problem("spec.jwtRules.jwks", "%d keys are not supported, and ignored", others)
		}
		out.Keys = keys
	case source != "":
		if err := jwks.Check(source); err != nil {
			o.problem("spec.jwtRules.jwksUri", "%v: no token is good", err)
			break
		}
		out.Source = source
	default: // OpenID Connect Discovery 1.0 §4
		at := strings.TrimSuffix(in.Issuer, "/") + jwks.Discovery
		if in.Issuer == "" || jwks.Check(at) != nil {
			o.problem("spec.jwtRules", "one without jwks and jwksUri, whose issuer is no address: no token is good")
			break
		}
		out.Source = at
	}
	return out
}

// Tokens returns what tokens are good for a workload. Without any, there are none to verify.
// The caller may set the keys of those with a Source.
func (o *Objects) Tokens(w *Workload) (out []authz.TokenRule) {
	for _, object := range o.covering(w) {
		out = append(out, object.tokens...)
	}
	return slices.Clip(out)
}
