package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Bounds of a set of keys.
const (
	MaxKeySet = 256 << 10 // bytes of a set as an issuer has it, with certificates and the like
	MaxKeys   = 64        // of a set
	minRSA    = 2048      // bits
	maxRSA    = 4096
)

// algorithms are those that tokens may be signed with: all have public keys.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// keySet has the keys of an issuer.
type keySet struct {
	byID map[string][]*key
	all  []*key
}

type key struct {
	public any // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	id     string
	alg    jose.SignatureAlgorithm // ""; any of the key's kind
}

// verifies reports whether the key may be used with an algorithm.
func (k *key) verifies(alg jose.SignatureAlgorithm) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return alg[:2] == "RS" || alg[:2] == "PS"
	case *ecdsa.PublicKey: // RFC 7518 §3.4: each has its curve
		switch alg {
		case jose.ES256:
			return public.Curve == elliptic.P256()
		case jose.ES384:
			return public.Curve == elliptic.P384()
		case jose.ES512:
			return public.Curve == elliptic.P521()
		}
	case ed25519.PublicKey:
		return alg == jose.EdDSA
	}
	return false
}

// rawKey has what of a key is not its material.
type rawKey struct {
	Use string   `json:"use"`
	Ops []string `json:"key_ops"`
	Alg string   `json:"alg"`
	KID string   `json:"kid"`
}

// signs reports whether the key is for signatures (RFC 7517 §4.2, §4.3).
func (r *rawKey) signs() bool {
	if r.Use != "" && r.Use != "sig" {
		return false
	}
	for _, op := range r.Ops {
		if op == "verify" {
			return true
		}
	}
	return len(r.Ops) == 0
}

// material is what PublicKeys keeps of a key.
type material struct {
	KTY string `json:"kty"`
	CRV string `json:"crv,omitempty"`
	N   string `json:"n,omitempty"`
	E   string `json:"e,omitempty"`
	X   string `json:"x,omitempty"`
	Y   string `json:"y,omitempty"`
	Alg string `json:"alg,omitempty"`
	KID string `json:"kid,omitempty"`
}

// maxName bounds the identifier of a key, in bytes.
const maxName = 256

// PublicKeys returns the keys of a JSON Web Key Set that can verify tokens, as a set, and
// how many others there are. What is not a public key for signatures is left out: secrets,
// private parts, certificates. It returns an error if the set is none, is over a bound, or
// has no such key.
func PublicKeys(set []byte) (keys string, others int, err error) {
	found, kept, err := parseKeys(set)
	if err != nil {
		return "", 0, err
	}
	if len(found.all) == 0 {
		return "", 0, errors.New("there is no public key for signatures that is supported: RSA of 2048 to 4096 bits, P-256, P-384, P-521, Ed25519")
	}
	text, err := json.Marshal(map[string]any{"keys": kept})
	if err != nil {
		return "", 0, fmt.Errorf("encode keys: %w", err)
	}
	return string(text), found.skipped, nil
}

type parsed struct {
	all     []*key
	skipped int
}

// parseKeys returns the keys that can verify, and the material of each.
func parseKeys(set []byte) (out parsed, kept []material, err error) {
	if len(set) > MaxKeySet {
		return out, nil, fmt.Errorf("a key set of more than %d bytes", MaxKeySet)
	}
	if err := checkDepth(set); err != nil {
		return out, nil, fmt.Errorf("key set: %w", err)
	}
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(set, &raw); err != nil {
		return out, nil, fmt.Errorf("key set: %w", err)
	}
	for _, text := range raw.Keys {
		k, m, ok := parseKey(text)
		if !ok {
			out.skipped++ // RFC 7517 §5: what is not understood is ignored
			continue
		}
		if len(out.all) == MaxKeys {
			return out, nil, fmt.Errorf("a key set with more than %d keys", MaxKeys)
		}
		out.all, kept = append(out.all, k), append(kept, m)
	}
	return out, kept, nil
}

func parseKey(text []byte) (*key, material, bool) {
	var raw rawKey
	var m material
	if json.Unmarshal(text, &raw) != nil || json.Unmarshal(text, &m) != nil || !raw.signs() || len(raw.KID) > maxName {
		return nil, m, false
	}
	public, err := json.Marshal(m)
	if err != nil {
		return nil, m, false
	}
	var k jose.JSONWebKey
	if k.UnmarshalJSON(public) != nil || !k.Valid() || !k.IsPublic() {
		return nil, m, false
	}
	out := &key{public: k.Key, id: raw.KID, alg: jose.SignatureAlgorithm(raw.Alg)}
	if rsa, ok := k.Key.(*rsa.PublicKey); ok && (rsa.N.BitLen() < minRSA || rsa.N.BitLen() > maxRSA) {
		return nil, m, false
	}
	for _, alg := range algorithms {
		if out.verifies(alg) {
			return out, m, true
		}
	}
	return nil, m, false
}

// newKeySet reads what PublicKeys has returned; "" is a set without keys.
func newKeySet(set string) (*keySet, error) {
	out := &keySet{byID: map[string][]*key{}}
	if set == "" {
		return out, nil
	}
	found, _, err := parseKeys([]byte(set))
	if err != nil {
		return out, err
	}
	out.all = found.all
	for _, k := range found.all {
		out.byID[k.id] = append(out.byID[k.id], k)
	}
	return out, nil
}

// maxTries bounds the signatures that are computed for one token and rule.
const maxTries = 8

// candidates returns the keys that may have signed a token: those with its identifier and
// those without one, or all if the token names none.
func (s *keySet) candidates(id string, alg jose.SignatureAlgorithm) (out []*key) {
	lists := [][]*key{s.all}
	if id != "" {
		lists = [][]*key{s.byID[id], s.byID[""]}
	}
	for _, list := range lists {
		for _, k := range list {
			if k.verifies(alg) && len(out) < maxTries {
				out = append(out, k)
			}
		}
	}
	return out
}
