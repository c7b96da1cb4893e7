package jwt

import (
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/underlane/underlane/pkg/mesh"
)

// MaxToken bounds a token, in bytes.
const MaxToken = 16 << 10

// leeway is how far the clocks of issuers and nodes may differ.
const leeway = time.Minute

// verdict is what is known of a token by one rule. It is immutable.
type verdict struct {
	failure   Failure // of the token itself, whatever the time
	token     *Token
	add       []mesh.HeaderField
	notBefore time.Time
	expires   time.Time // zero: never
	size      int       // bytes of memory, about
}

// at returns the failure at a time.
func (v *verdict) at(now time.Time) Failure {
	switch {
	case v.failure != Good:
		return v.failure
	case !v.expires.IsZero() && !now.Before(v.expires.Add(leeway)):
		return Expired
	case now.Before(v.notBefore.Add(-leeway)):
		return NotYet
	}
	return Good
}

type result struct {
	failure Failure
	token   *Token
	add     []mesh.HeaderField
}

// verifyAll judges a token by the rules that have its place. It returns the first rule by
// which the token is good, or the failure of the rule that came nearest to it.
func (v *Verifier) verifyAll(f *found, now time.Time, by func(*rule) *verdict) (*rule, *verdict, Failure) {
	worst := Issuer
	for i := range v.rules {
		r := &v.rules[i]
		if !slices.Contains(r.places, f.place) {
			continue
		}
		got := by(r)
		failure := got.at(now)
		if failure == Good {
			return r, got, Good
		}
		worst = max(worst, failure)
		if failure < Issuer { // it is the same by each rule
			return nil, got, failure
		}
	}
	return nil, nil, worst
}

// verify judges a token at a time. It adds to missing the sources of keys that lack its key.
func (v *Verifier) verify(f *found, cache cacher, now time.Time, missing *[]string) (*rule, result) {
	if len(f.text) > MaxToken {
		return nil, result{failure: TooLong}
	}
	var parsed *unverified
	r, got, failure := v.verifyAll(f, now, func(r *rule) *verdict {
		k := keyOf(r, f.text)
		known := cache.get(k)
		if known == nil {
			if parsed == nil {
				parsed = parse(f.text)
			}
			known = v.judge(r, parsed, f.text)
			cache.put(k, known)
		}
		if known.failure == UnknownKey && r.Source != "" && !slices.Contains(*missing, r.Source) {
			*missing = append(*missing, r.Source)
		}
		return known
	})
	if failure != Good {
		return nil, result{failure: failure}
	}
	return r, result{token: got.token, add: got.add}
}

// cacheKey is what a verdict is found by.
type cacheKey [sha256.Size]byte

func keyOf(r *rule, token string) cacheKey {
	h := sha256.New()
	h.Write(r.mark[:])
	h.Write([]byte(token))
	return cacheKey(h.Sum(nil))
}

// unverified is a token of which nothing is proven.
type unverified struct {
	failure Failure
	signed  *jose.JSONWebSignature
	alg     jose.SignatureAlgorithm
	keyID   string
	claims  map[string]any
}

func parse(token string) *unverified {
	signed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		if strings.Count(token, ".") == 2 && strings.Contains(err.Error(), "unexpected signature algorithm") {
			return &unverified{failure: Algorithm}
		}
		return &unverified{failure: Malformed}
	}
	if len(signed.Signatures) != 1 {
		return &unverified{failure: Malformed}
	}
	head := signed.Signatures[0].Protected
	if _, detached := head.ExtraHeaders["b64"]; detached { // RFC 7797 §7: not in a JWT
		return &unverified{failure: Malformed}
	}
	claims, err := readClaims(signed.UnsafePayloadWithoutVerification())
	if err != nil {
		return &unverified{failure: Malformed}
	}
	return &unverified{signed: signed, alg: jose.SignatureAlgorithm(head.Algorithm), keyID: head.KeyID, claims: claims}
}

// judge judges a token by one rule, whatever the time.
func (v *Verifier) judge(r *rule, t *unverified, text string) *verdict {
	bad := func(f Failure) *verdict { return &verdict{failure: f, size: verdictSize} }
	if t.failure != Good {
		return bad(t.failure)
	}
	issuer, _ := t.claims["iss"].(string)
	switch {
	case issuer != r.Issuer:
		return bad(Issuer)
	case r.dead || len(r.keys.all) == 0:
		return bad(NoKeys)
	}
	candidates := r.keys.candidates(t.keyID, t.alg)
	if len(candidates) == 0 {
		return bad(UnknownKey)
	}
	if !slices.ContainsFunc(candidates, func(k *key) bool { _, err := t.signed.Verify(k.public); return err == nil }) {
		return bad(Signature)
	}
	return v.accept(r, t.claims, text)
}

// accept makes the verdict of a token whose signature is verified.
func (v *Verifier) accept(r *rule, claims map[string]any, text string) *verdict {
	out := &verdict{size: verdictSize}
	var ok bool
	if out.expires, ok = date(claims, "exp"); !ok {
		out.failure = Malformed
		return out
	}
	if out.notBefore, ok = date(claims, "nbf"); !ok {
		out.failure = Malformed
		return out
	}
	if !audience(r.Audiences, claims["aud"]) {
		out.failure = Audience
		return out
	}
	t := &Token{claims: claims, spaced: r.spaced}
	if subject, _ := claims["sub"].(string); subject != "" {
		t.Principal = r.Issuer + "/" + subject
		if v.ambiguous(r.Issuer, t.Principal) {
			out.failure = Subject
			return out
		}
	}
	if r.payload != "" {
		_, rest, _ := strings.Cut(text, ".")
		payload, _, _ := strings.Cut(rest, ".")
		out.add = append(out.add, mesh.HeaderField{Name: r.payload, Value: strings.Clone(payload)})
	}
	size := 0
	for _, c := range r.claims {
		value, ok := headerValue(claims, c.Claim)
		if size += len(value); ok && size <= maxHeaderValue {
			out.add = append(out.add, mesh.HeaderField{Name: c.Header, Value: value})
		}
	}
	out.token = t
	out.size += len(text)*claimsCost + size
	return out
}

// What a verdict takes of memory, about: its own size with what is around it, and bytes for
// each byte of the token.
const (
	verdictSize = 256
	claimsCost  = 8
)

// date returns the time of a claim (RFC 7519 §2, NumericDate); zero: there is none. ok is
// false for what is no time.
func date(claims map[string]any, name string) (at time.Time, ok bool) {
	value, ok := claims[name]
	if !ok {
		return time.Time{}, true
	}
	seconds, ok := number(value)
	if !ok || seconds < 0 || seconds > maxDate {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}

// maxDate is far in the future, in Unix seconds.
const maxDate = 1 << 40

// audience reports whether a token is for one of those wanted.
func audience(want []string, claim any) bool {
	if len(want) == 0 {
		return true
	}
	switch got := claim.(type) {
	case string:
		return slices.Contains(want, got)
	case []any:
		return slices.ContainsFunc(got, func(v any) bool { s, ok := v.(string); return ok && slices.Contains(want, s) })
	}
	return false
}
