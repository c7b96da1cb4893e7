package jwt

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
)

// FuzzToken judges what a client may send. What is good has a signature that this test
// verifies by itself, and the verdict of the cache is that of the first time.
func FuzzToken(f *testing.F) {
	rule := standard(f)
	rule.Keys = set(f, "es")
	v := compiled(f, rule)
	public := signers()["es"].key.Public().(*ecdsa.PublicKey)
	good := signers()["es"].token(f, nil)
	f.Add(good, "")
	f.Add(strings.Replace(good, ".", "..", 1), "access_token=x&access_token=%")
	f.Add("eyJhbGciOiJub25lIn0.e30.", "access_token="+good)
	f.Fuzz(func(t *testing.T, token, query string) {
		h := Head{Path: "/?" + query, Fields: fields{"authorization", "Bearer " + token}}
		cache := NewCache[string](8, 1<<20)
		first := Judge(v, h, cache, "c", now, false)
		again := Judge(v, h, cache, "c", now, false)
		if first.Failure != again.Failure || first.Target != again.Target || len(first.Add) != len(again.Add) {
			t.Fatalf("%+v, then %+v", first, again)
		}
		if first.Failure != Good || first.Token == nil {
			return
		}
		if token = strings.Trim(token, " \t"); token == "" {
			return // that of the query was judged
		}
		head, rest, _ := strings.Cut(token, ".")
		payload, signature, _ := strings.Cut(rest, ".")
		raw, err := base64.RawURLEncoding.DecodeString(signature)
		if err != nil || len(raw) != 64 {
			t.Fatalf("%q is good, and its signature is none", token)
		}
		sum := sha256.Sum256([]byte(head + "." + payload))
		if !ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])) {
			t.Fatalf("%q is good, and its signature is not", token)
		}
	})
}

// FuzzKeys reads what an issuer may send. What is kept is read again as the same.
func FuzzKeys(f *testing.F) {
	f.Add(set(f, "rs", "es", "ed"))
	f.Add(`{"keys":[{"kty":"oct","k":"AA"},{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		keys, _, err := PublicKeys([]byte(text))
		if err != nil {
			return
		}
		if strings.Contains(keys, `"d"`) && !strings.Contains(keys, `"kid":"d"`) {
			t.Fatalf("a private key is left: %s, want public keys", keys)
		}
		if again, others, err := PublicKeys([]byte(keys)); err != nil || others > 0 || again != keys {
			t.Fatalf("public keys of %s: %s, %d others, error %v; want the same keys", keys, again, others, err)
		}
		if s, err := newKeySet(keys); err != nil || len(s.all) == 0 {
			t.Fatal(err)
		}
	})
}
