package jwt

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// signer is a private key of an issuer.
type signer struct {
	id  string
	alg jose.SignatureAlgorithm
	key crypto.Signer
}

// signers makes keys once: those of RSA take long.
var signers = sync.OnceValue(func() map[string]signer {
	must := func(k crypto.Signer, err error) crypto.Signer {
		if err != nil {
			panic(err)
		}
		return k
	}
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	return map[string]signer{
		"rs":    {"rs", jose.RS256, rsaKey},
		"ps":    {"rs", jose.PS256, rsaKey},
		"es":    {"es", jose.ES256, must(ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{7}, 32)))}, // the same in all processes of a fuzzer
		"es384": {"es384", jose.ES384, must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))},
		"ed":    {"ed", jose.EdDSA, must(ed, err)},
		"other": {"es", jose.ES256, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))},
	}
})

// set returns the public keys of signers as an issuer has them.
func set(t testing.TB, names ...string) string {
	t.Helper()
	var all jose.JSONWebKeySet
	for _, name := range names {
		s := signers()[name]
		all.Keys = append(all.Keys, jose.JSONWebKey{Key: s.key.Public(), KeyID: s.id, Use: "sig"})
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	keys, others, err := PublicKeys(text)
	if err != nil || others > 0 {
		t.Fatalf("%d keys are of no use, error %v; want none", others, err)
	}
	return keys
}

type claims = map[string]any

// token signs claims; those of standard that c does not have are added.
func (s signer) token(t testing.TB, c claims) string {
	t.Helper()
	all := claims{"iss": "https://issuer", "sub": "alice", "aud": "shop", "exp": now.Add(time.Hour).Unix()}
	for name, value := range c {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return s.sign(t, payload)
}

func (s signer) sign(t testing.TB, payload []byte) string {
	t.Helper()
	signing, err := jose.NewSigner(jose.SigningKey{Algorithm: s.alg, Key: s.key}, (&jose.SignerOptions{}).WithHeader("kid", s.id))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signing.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

var now = time.Unix(1_800_000_000, 0)

// fields are header fields: a name, a value and so on.
type fields []string

func (f fields) Next(name string, from int) (string, int, bool) {
	for i := from; i+1 < len(f); i += 2 {
		if strings.EqualFold(f[i], name) {
			return f[i+1], i + 2, true
		}
	}
	return "", 0, false
}

// Alike implements authz.Fields.
func (f fields) Alike(name string, from int) (string, int, bool) {
	for i := from; i+1 < len(f); i += 2 {
		if n := f[i]; !strings.EqualFold(n, name) && strings.EqualFold(strings.ReplaceAll(n, "_", "-"), strings.ReplaceAll(name, "_", "-")) {
			return f[i+1], i + 2, true
		}
	}
	return "", 0, false
}

func bearer(token string) Head {
	return Head{Path: "/", Fields: fields{"Authorization", "Bearer " + token}}
}

func compiled(t testing.TB, rules ...authz.TokenRule) *Verifier {
	t.Helper()
	v, problems := Compile(rules)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return v
}

func judge(v *Verifier, h Head) Judgement {
	return Judge(v, h, NewCache[string](100, 1<<20), "client", now, false)
}

func standard(t testing.TB) authz.TokenRule {
	return authz.TokenRule{Issuer: "https://issuer", Audiences: []string{"shop"}, Keys: set(t, "rs", "es", "es384", "ed")}
}

func TestGoodTokens(t *testing.T) {
	v := compiled(t, standard(t))
	for name, s := range signers() {
		if name == "other" {
			continue
		}
		got := judge(v, bearer(s.token(t, nil)))
		if got.Failure != Good || got.Token == nil || got.Token.Principal != "https://issuer/alice" {
			t.Errorf("%s: got %v, %v", s.alg, got.Failure, got.Token)
		}
		if !slices.Equal(got.Remove, []string{"authorization"}) {
			t.Errorf("%s: removes %q, want the token", s.alg, got.Remove)
		}
	}
	if got := judge(v, Head{Path: "/"}); got.Failure != Good || got.Token != nil || len(got.Remove) > 0 {
		t.Errorf("without a token: %+v", got)
	}
	for _, other := range []string{"Basic YTpi", "Bearer", "Bearer ", "x"} {
		if got := judge(v, Head{Path: "/", Fields: fields{"authorization", other}}); got.Failure != Good || got.Token != nil || len(got.Remove) > 0 {
			t.Errorf("%q: %+v, want no token", other, got)
		}
	}
	lenient := Judge(v, bearer("x.y.z"), NewCache[string](9, 1<<20), "", now, true)
	if lenient.Failure != Good || lenient.Token != nil || len(lenient.Remove) > 0 {
		t.Errorf("a bad token, lenient: %+v", lenient)
	}
}

func TestBadTokens(t *testing.T) {
	v := compiled(t, standard(t))
	rs, es, other := signers()["rs"], signers()["es"], signers()["other"]
	enc := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	good := es.token(t, nil)
	parts := strings.Split(good, ".")
	none := enc(`{"alg":"none"}`) + "." + parts[1] + "."
	// The public key as the secret of an HMAC (RFC 8725 §2.1).
	confused := func(alg jose.SignatureAlgorithm, secret string) string {
		signing, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: []byte(secret)}, (&jose.SignerOptions{}).WithHeader("kid", "rs"))
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signing.Sign([]byte(`{"iss":"https://issuer","sub":"alice","aud":"shop"}`))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := signed.CompactSerialize()
		return text
	}
	own := jose.JSONWebKey{Key: other.key.Public(), KeyID: "es"}
	embedded, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: other.key}, (&jose.SignerOptions{}).WithHeader("jwk", own).WithHeader("kid", "es"))
	if err != nil {
		t.Fatal(err)
	}
	withKey, err := embedded.Sign([]byte(`{"iss":"https://issuer","sub":"alice","aud":"shop"}`))
	if err != nil {
		t.Fatal(err)
	}
	keyInside, _ := withKey.CompactSerialize()
	deep := `{"iss":"https://issuer","x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}"
	unknown := es
	unknown.id = "another"
	for name, c := range map[string]struct {
		token string
		want  Failure
	}{
		"another key":            {other.token(t, nil), Signature},
		"another key's name":     {unknown.token(t, nil), UnknownKey},
		"key in the token":       {keyInside, Signature},
		"expired":                {es.token(t, claims{"exp": now.Add(-2 * time.Minute).Unix()}), Expired},
		"not yet":                {es.token(t, claims{"nbf": now.Add(2 * time.Minute).Unix()}), NotYet},
		"audience":               {es.token(t, claims{"aud": "bank"}), Audience},
		"audiences":              {es.token(t, claims{"aud": []string{"bank", "post"}}), Audience},
		"no audience":            {es.token(t, claims{"aud": nil}), Audience},
		"issuer":                 {es.token(t, claims{"iss": "https://issuer2"}), Issuer},
		"no issuer":              {es.token(t, claims{"iss": nil}), Issuer},
		"issuer of another type": {es.token(t, claims{"iss": 1}), Issuer},
		"exp of another type":    {es.token(t, claims{"exp": "never"}), Malformed},
		"exp of the past world":  {es.token(t, claims{"exp": -1}), Malformed},
		"exp of the far future":  {es.token(t, claims{"exp": 1e300}), Malformed},
		"none":                   {none, Algorithm},
		"none with a signature":  {none + parts[2], Algorithm},
		"HMAC":                   {confused(jose.HS256, v.rules[0].Keys), Algorithm},
		"algorithm of a kind":    {enc(`{"alg":"RS256","kid":"es"}`) + "." + parts[1] + "." + parts[2], UnknownKey},
		"nested":                 {es.sign(t, []byte(deep)), Malformed},
		"twice the same name":    {es.sign(t, []byte(`{"iss":"https://issuer","iss":"https://issuer","aud":"shop"}`)), Malformed},
		"another case":           {es.sign(t, []byte(`{"ISS":"https://issuer","aud":"shop"}`)), Issuer},
		"a list":                 {es.sign(t, []byte(`[1]`)), Malformed},
		"null":                   {es.sign(t, []byte(`null`)), Malformed},
		"two objects":            {es.sign(t, []byte(`{"iss":"https://issuer","aud":"shop"}{}`)), Malformed},
		"a token in a token":     {es.sign(t, []byte(`"`+good+`"`)), Malformed},
		"no JSON":                {es.sign(t, []byte(`x`)), Malformed},
		"cut":                    {good[:len(good)-1], Malformed},
		"without a signature":    {parts[0] + "." + parts[1] + ".", Signature},
		"two parts":              {parts[0] + "." + parts[1], Malformed},
		"four parts":             {good + ".x", Malformed},
		"other letters":          {"%%%.%%%.%%%", Malformed},
		"many dots":              {strings.Repeat(".", 10000), Malformed},
		"huge":                   {strings.Repeat("x", MaxToken+1), TooLong},
		"payload not encoded":    {enc(`{"alg":"ES256","kid":"es","crit":["b64"],"b64":false}`) + "." + parts[1] + "." + parts[2], Malformed},
		"critical":               {enc(`{"alg":"ES256","kid":"es","crit":["exp"],"exp":1}`) + "." + parts[1] + "." + parts[2], Signature},
	} {
		for range 2 { // the second time from the cache
			got := judge(v, bearer(c.token))
			if got.Failure != c.want || got.Token != nil || len(got.Add) > 0 {
				t.Errorf("%s: got %v (%+v), want %v", name, got.Failure, got.Token, c.want)
			}
		}
	}
	for name, at := range map[string]claims{"just expired": {"exp": now.Add(-50 * time.Second).Unix()}, "soon": {"nbf": now.Add(50 * time.Second).Unix()}, "with no end": {"exp": nil}} {
		if got := judge(v, bearer(es.token(t, at))); got.Failure != Good {
			t.Errorf("%s: %v, want it good within the leeway", name, got.Failure)
		}
	}
	noKeys := standard(t)
	noKeys.Keys = ""
	if got := judge(compiled(t, noKeys), bearer(good)); got.Failure != NoKeys {
		t.Errorf("keys not known: %v", got.Failure)
	}
	small := claims{"sub": rs.id}
	if got := judge(v, Head{Path: "/", Fields: fields{
		"Authorization", "Bearer " + es.token(t, small), "authorization", "bearer " + good, "Authorization", "BEARER " + rs.token(t, nil),
		"Authorization", "Bearer " + rs.token(t, small), "Authorization", "Bearer " + signers()["ed"].token(t, nil),
	}}); got.Failure != TooMany {
		t.Errorf("five tokens: %v", got.Failure)
	}
}

// TestExpiry: a verdict of the cache does not outlive its token.
func TestExpiry(t *testing.T) {
	v, cache := compiled(t, standard(t)), NewCache[string](9, 1<<20)
	h := bearer(signers()["es"].token(t, claims{"nbf": now.Unix()}))
	for after, want := range map[time.Duration]Failure{0: Good, 2 * time.Hour: Expired, -time.Hour: NotYet} {
		if got := Judge(v, h, cache, "c", now.Add(after), false); got.Failure != want {
			t.Errorf("after %v: %v, want %v", after, got.Failure, want)
		}
	}
	if n, _ := cache.Len(); n != 1 {
		t.Errorf("the cache has %d entries, want 1", n)
	}
}

// TestRotation: a token of a new key is good as soon as the rule has the key, whatever the
// cache says.
func TestRotation(t *testing.T) {
	cache := NewCache[string](9, 1<<20)
	rule := authz.TokenRule{Issuer: "https://issuer", Source: "https://issuer/keys", Keys: set(t, "es")}
	old, next := bearer(signers()["es"].token(t, nil)), bearer(signers()["ed"].token(t, nil))
	ask := func(h Head) Judgement { return Judge(compiled(t, rule), h, cache, "c", now, false) }
	if got := ask(old); got.Failure != Good || got.Missing != nil {
		t.Errorf("a token of the known key: %+v, want it good", got)
	}
	for range 2 {
		if got := ask(next); got.Failure != UnknownKey || !slices.Equal(got.Missing, []string{rule.Source}) {
			t.Errorf("a token of a new key: %+v, want an unknown key and its source", got)
		}
	}
	rule.Keys = set(t, "es", "ed")
	if a, b := ask(old), ask(next); a.Failure != Good || b.Failure != Good || b.Missing != nil {
		t.Errorf("both keys known: %+v and %+v, want both good", a, b)
	}
	rule.Keys = set(t, "ed")
	if a, b := ask(old), ask(next); a.Failure != UnknownKey || b.Failure != Good {
		t.Errorf("the old key is gone: %+v and %+v, want the first to have an unknown key", a, b)
	}
}

func TestPlaces(t *testing.T) {
	es := signers()["es"]
	a, b := es.token(t, nil), es.token(t, claims{"sub": "bob"})
	rule := standard(t)
	rule.Headers = []authz.TokenHeader{{Name: "X-Token"}, {Name: "X-Other", Prefix: "T:"}}
	rule.Params, rule.Cookies = []string{"tok en", "t"}, []string{"session"}
	type outcome struct {
		Principal, Target string
		Remove            []string
		Add               []mesh.HeaderField
		Failure           Failure
	}
	alice := "https://issuer/alice"
	for name, c := range map[string]struct {
		head Head
		want outcome
	}{
		"not in Authorization":   {bearer(a), outcome{}},
		"header":                 {Head{"/", fields{"x-token", a}}, outcome{Principal: alice, Remove: []string{"x-token"}}},
		"header by a name alike": {Head{"/", fields{"x_token", "x"}}, outcome{Failure: Malformed}},
		"beside a good one":      {Head{"/", fields{"x-token", a, "X_Token", "x"}}, outcome{Failure: Malformed}},
		"prefix":                 {Head{"/", fields{"x-other", "t:  " + a}}, outcome{Principal: alice, Remove: []string{"x-other"}}},
		"without prefix":         {Head{"/", fields{"x-other", a}}, outcome{}},
		"the same twice":         {Head{"/?t=" + a, fields{"x-token", a}}, outcome{Principal: alice, Remove: []string{"x-token"}, Target: "/"}},
		"one of two is bad":      {Head{"/?t=x", fields{"x-token", a}}, outcome{Failure: Malformed}},
		"the first counts":       {Head{"/?t=" + b, fields{"x-token", a}}, outcome{Principal: alice, Remove: []string{"x-token"}, Target: "/"}},
		"parameter":              {Head{"/p?x=1&t=" + a + "&y", nil}, outcome{Principal: alice, Target: "/p?x=1&y"}},
		"parameter, encoded":     {Head{"/p?%74=" + strings.ReplaceAll(a, ".", "%2e"), nil}, outcome{Principal: alice, Target: "/p"}},
		"parameter with space":   {Head{"/p?tok+en=" + a + "#t=1", nil}, outcome{Principal: alice, Target: "/p#t=1"}},
		"parameter, empty":       {Head{"/p?t=&t", nil}, outcome{}},
		"parameter of fragment":  {Head{"/p#?t=x", nil}, outcome{Failure: Malformed}},
		"bad parameter, encoded": {Head{"/p?%74=x", nil}, outcome{Failure: Malformed}},
		"cookie": {
			Head{"/", fields{"Cookie", "a=b; session=" + a + ";c=d", "cookie", "e=f"}},
			outcome{Principal: alice, Remove: []string{"cookie"}, Add: []mesh.HeaderField{{Name: "cookie", Value: "a=b; c=d; e=f"}}},
		},
		"cookie alone": {Head{"/", fields{"cookie", `session="` + a + `"`}}, outcome{Principal: alice, Remove: []string{"cookie"}}},
		"bad cookie":   {Head{"/", fields{"cookie", "a=b; session=x"}}, outcome{Failure: Malformed}},
	} {
		j := judge(compiled(t, rule), c.head)
		got := outcome{Target: j.Target, Remove: j.Remove, Add: j.Add, Failure: j.Failure}
		if j.Token != nil {
			got.Principal = j.Token.Principal
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got: %s", name, diff)
		}
	}
	rule.Forward = true
	if j := judge(compiled(t, rule), Head{"/?t=" + a, fields{"x-token", a, "cookie", "session=" + a}}); j.Token == nil || j.Remove != nil || j.Target != "" || j.Add != nil {
		t.Errorf("forwarded: %+v", j)
	}
	if j := judge(compiled(t, standard(t)), Head{"/?access_token=" + a, nil}); j.Token == nil || j.Target != "/" {
		t.Errorf("access_token: %+v", j)
	}
}

func TestOutput(t *testing.T) {
	rule := standard(t)
	rule.Forward, rule.PayloadHeader = true, "X-Payload"
	for _, name := range []string{"sub", "n", "yes", "list", "org.name", "evil", "none", "scope"} {
		rule.ClaimHeaders = append(rule.ClaimHeaders, authz.TokenCopy{Header: "X-" + name, Claim: strings.Split(name, ".")})
	}
	all := []string{"x-payload", "x-sub", "x-n", "x-yes", "x-list", "x-org.name", "x-evil", "x-none", "x-scope"}
	v := compiled(t, rule)
	token := signers()["es"].token(t, claims{
		"n": 12345678901234567, "yes": true, "list": []string{"a"}, "org": claims{"name": "acme"}, "evil": "a\r\nx-admin: 1", "scope": "read write",
	})
	got := judge(v, bearer(token))
	if !slices.Equal(got.Remove, all) {
		t.Errorf("removes %q, want %q", got.Remove, all)
	}
	want := []mesh.HeaderField{
		{Name: "x-payload", Value: strings.Split(token, ".")[1]},
		{Name: "x-sub", Value: "alice"},
		{Name: "x-n", Value: "12345678901234567"},
		{Name: "x-yes", Value: "true"},
		{Name: "x-list", Value: base64.RawURLEncoding.EncodeToString([]byte(`["a"]`))},
		{Name: "x-org.name", Value: "acme"},
		{Name: "x-scope", Value: "read write"},
	}
	if diff := cmp.Diff(want, got.Add); diff != "" {
		t.Error("-want +got:", diff)
	}
	for name, h := range map[string]Head{"no token": {Path: "/"}, "a bad token": bearer("x")} {
		if got := judge(v, h); !slices.Equal(got.Remove, all) || len(got.Add) > 0 {
			t.Errorf("%s: %+v, want that what the client sends is removed", name, got)
		}
	}
}

func TestClaims(t *testing.T) {
	rule := standard(t)
	rule.SpaceDelimited = []string{"groups"}
	token := judge(compiled(t, rule), bearer(signers()["es"].token(t, claims{
		"scope": "read  write", "groups": "a b", "other": "a b", "list": []any{"x", 1, nil, claims{}, true}, "org": claims{"unit": claims{"id": "7"}}, "null": nil,
	}))).Token
	for path, want := range map[string][]string{
		"scope": {"read", "write"}, "groups": {"a", "b"}, "other": {"a b"}, "list": {"x", "1", "true"},
		"org.unit.id": {"7"}, "org.unit": nil, "org.unit.id.x": nil, "absent": nil, "sub": {"alice"}, "aud": {"shop"}, "sub.x": nil,
	} {
		var got []string
		for i := 0; ; i++ {
			value, ok := token.Value(strings.Split(path, "."), i)
			if !ok {
				break
			}
			got = append(got, value)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	if _, ok := token.Value(nil, 0); ok {
		t.Error("an empty path has a value")
	}
}

// TestIssuers: each token is judged by the rules of its issuer, and no subject makes a
// principal of another issuer.
func TestIssuers(t *testing.T) {
	rules := []authz.TokenRule{
		{Issuer: "https://a", Keys: set(t, "es")},
		{Issuer: "https://a/b", Keys: set(t, "ed")},
		{Issuer: "https://a", Keys: set(t, "rs"), Audiences: []string{"bank"}},
	}
	v := compiled(t, rules...)
	for name, c := range map[string]struct {
		by, issuer, subject, audience string
		want                          Failure
	}{
		"first":                  {"es", "https://a", "x", "shop", Good},
		"second":                 {"ed", "https://a/b", "x", "shop", Good},
		"third":                  {"rs", "https://a", "x", "bank", Good},
		"third, other audience":  {"rs", "https://a", "x", "shop", Audience},
		"keys of another issuer": {"es", "https://a/b", "x", "shop", UnknownKey},
		"slashes":                {"es", "https://a", "c/d", "shop", Good},
		"like another issuer":    {"es", "https://a", "b/c", "shop", Subject},
		"nearly like another":    {"es", "https://a", "b", "shop", Good},
	} {
		got := judge(v, bearer(signers()[c.by].token(t, claims{"iss": c.issuer, "sub": c.subject, "aud": c.audience})))
		if got.Failure != c.want {
			t.Errorf("%s: got %v, want %v", name, got.Failure, c.want)
		}
		if got.Failure == Good && got.Token.Principal != c.issuer+"/"+c.subject {
			t.Errorf("%s: principal %q", name, got.Token.Principal)
		}
	}
}

// TestProblems: by a rule that is not understood no token is good, and what it would fill is
// still removed.
func TestProblems(t *testing.T) {
	for name, change := range map[string]func(*authz.TokenRule){
		"issuer":        func(r *authz.TokenRule) { r.Issuer = "" },
		"keys":          func(r *authz.TokenRule) { r.Keys = "x" },
		"header":        func(r *authz.TokenRule) { r.Headers = []authz.TokenHeader{{Name: "a b"}} },
		"host":          func(r *authz.TokenRule) { r.ClaimHeaders = []authz.TokenCopy{{Header: "Host", Claim: []string{"sub"}}} },
		"length":        func(r *authz.TokenRule) { r.PayloadHeader = "content-length" },
		"own":           func(r *authz.TokenRule) { r.PayloadHeader = "underlane-reason" },
		"pseudo":        func(r *authz.TokenRule) { r.PayloadHeader = ":path" },
		"claim":         func(r *authz.TokenRule) { r.ClaimHeaders = []authz.TokenCopy{{Header: "x"}} },
		"parameter":     func(r *authz.TokenRule) { r.Params = []string{""} },
		"cookie":        func(r *authz.TokenRule) { r.Cookies = []string{"a=b"} },
		"too much":      func(r *authz.TokenRule) { r.Audiences = make([]string, maxList+1) },
		"good, in fact": func(*authz.TokenRule) {},
	} {
		rule := standard(t)
		rule.Policy = "p"
		change(&rule)
		v, problems := Compile([]authz.TokenRule{rule})
		token := signers()["es"].token(t, claims{"iss": rule.Issuer})
		got := judge(v, Head{Path: "/", Fields: fields{"authorization", "Bearer " + token}})
		if good := strings.HasPrefix(name, "good"); good != (len(problems) == 0) || good != (got.Token != nil) {
			t.Errorf("%s: problems %v, %+v", name, problems, got)
		}
	}
}

func TestPublicKeys(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	all := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: signers()["es"].key, KeyID: "private"},
		{Key: signers()["rs"].key.Public(), KeyID: "encrypts", Use: "enc"},
		{Key: signers()["rs"].key.Public(), KeyID: "other", Algorithm: "RSA-OAEP"},
		{Key: []byte("secret"), KeyID: "secret"},
		{Key: small.Public(), KeyID: "small"},
		{Key: private.Public(), KeyID: "good"},
	}}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	keys, others, err := PublicKeys(text)
	if err != nil || others != 4 {
		t.Fatalf("keys %s, %d of no use, error %v; want 4 of no use", keys, others, err)
	}
	for _, secret := range []string{`"d"`, `"k"`, "secret", "small", "encrypts"} {
		if strings.Contains(keys, secret) {
			t.Errorf("the keys have %s: %s", secret, keys)
		}
	}
	if !strings.Contains(keys, "private") || !strings.Contains(keys, "good") {
		t.Errorf("the public keys are missing: %s", keys)
	}
	again, others, err := PublicKeys([]byte(keys))
	if err != nil || others != 0 || again != keys {
		t.Errorf("again: keys %s, %d of no use, error %v; want the same keys", again, others, err)
	}
	var many jose.JSONWebKeySet
	for i := range MaxKeys + 1 {
		many.Keys = append(many.Keys, jose.JSONWebKey{Key: private.Public(), KeyID: fmt.Sprint(i)})
	}
	text, _ = json.Marshal(many)
	for name, bad := range map[string]string{
		"empty": "", "no set": "[]", "null": "null", "no keys": `{"keys":[]}`, "too many": string(text),
		"large": `{"keys":[` + strings.Repeat(" ", MaxKeySet) + `]}`, "deep": strings.Repeat(`{"a":`, 99), "strange": `{"keys":[1,"x",null,{"kty":"RSA"}]}`,
	} {
		if keys, _, err := PublicKeys([]byte(bad)); err == nil {
			t.Errorf("%s: got %s, want an error", name, keys)
		}
	}
}
