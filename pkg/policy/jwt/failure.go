package jwt

// Failure says why a token is not good.
type Failure uint8

// The failures.
const (
	Good Failure = iota
	TooMany
	TooLong
	Malformed
	Algorithm
	Issuer
	NoKeys
	UnknownKey
	Signature
	Expired
	NotYet
	Audience
	Subject

	numFailures
)

// texts are for error_description of RFC 6750 §3, which has no quotes and backslashes.
var texts = [numFailures]string{
	Good:       "",
	TooMany:    "the request has too many tokens",
	TooLong:    "the token is too long",
	Malformed:  "the token is malformed",
	Algorithm:  "the token's algorithm is not allowed",
	Issuer:     "the token's issuer is not allowed here",
	NoKeys:     "the issuer's keys are not known",
	UnknownKey: "the token's key is not one of its issuer",
	Signature:  "the token's signature is wrong",
	Expired:    "the token has expired",
	NotYet:     "the token is not valid yet",
	Audience:   "the token is for another audience",
	Subject:    "the token's subject reads like one of another issuer",
}

// String returns a sentence without a full stop, "" for Good.
func (f Failure) String() string {
	if f < numFailures {
		return texts[f]
	}
	return texts[Malformed]
}
