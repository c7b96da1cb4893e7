// Package jwt verifies the tokens of requests (RFC 7519, RFC 7515) by the rules of a
// workload, and says what the application gets of them. It is pure: keys, head, time and
// cache are arguments.
//
// # The judgement
//
// A request without a token has no principal, and nothing else: only authorization policies
// decide about it. A request with a token that is not good fails, and so does one of whose
// tokens one is not good. The first token that is good gives the principal and the claims,
// in the order of the rules and of their places.
//
// Header fields that a rule fills are removed from every request, and so are good tokens
// of a rule without Forward.
//
// # What is hostile
//
// A token is an attacker's until its signature is verified. Only algorithms with public keys
// are known, and a key verifies the algorithms of its own kind alone (RFC 8725 §3.1).
// Length, nesting, the number of tokens in a request, and of signatures that are computed
// for one, have bounds. What was verified is remembered in a Cache, in which each client has
// its fair share.
package jwt
