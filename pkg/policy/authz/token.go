package authz

import "time"

// TokenRule says which tokens of requests to a workload are good, where they are, and what
// the application gets of them: a JWTRule of Istio's RequestAuthentication. Package jwt
// verifies by it, and sets Principal and Claims of a Request.
type TokenRule struct {
	Policy    string   // for problems: kind, namespace and name of the object
	Issuer    string   // the claim "iss"
	Audiences []string // one of them is in the claim "aud"; none: any audience
	// Keys are the issuer's public keys: a JSON Web Key Set (RFC 7517 §5). "": they are not
	// known, and no token is good.
	Keys string
	// Source is the address that the controller has Keys from; "": they are a part of the
	// object.
	Source string
	// Timeout is how long the controller waits for Keys at a time; 0: as long as it does by
	// itself. Agents do not have it.
	Timeout time.Duration

	// Places of tokens. Without any these are the header field Authorization after
	// "Bearer ", and the parameter access_token.
	Headers []TokenHeader
	Params  []string // of the query
	Cookies []string

	Forward       bool        // the application gets the token, too
	PayloadHeader string      // header field for the token's payload, as base64url; "": none
	ClaimHeaders  []TokenCopy // header fields for claims
	// SpaceDelimited are claims of which each word is an element of a list. So are "scope"
	// and "permission".
	SpaceDelimited []string
}

// TokenHeader is a header field that has a token after a prefix, which may be "".
type TokenHeader struct{ Name, Prefix string }

// TokenCopy is a header field that gets the value of a claim.
type TokenCopy struct {
	Header string
	Claim  []string // the path to a claim
}

// Tokens returns what tokens are good for the workload. Without any, there is nothing to
// verify. They must not be changed.
func (w *Workload) Tokens() []TokenRule {
	if w == nil {
		return nil
	}
	return w.spec.Tokens
}
