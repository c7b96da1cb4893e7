package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/underlane/underlane/test/lab"
)

// tokenIssuer signs tokens, and publishes its keys as a file.
type tokenIssuer struct {
	t    *testing.T
	file string
}

type tokenSigner struct {
	issuer *tokenIssuer
	jose.Signer
}

// key makes a key, which is not published yet.
func (i *tokenIssuer) key(alg jose.SignatureAlgorithm) (tokenSigner, jose.JSONWebKey) {
	i.t.Helper()
	var private crypto.Signer
	var err error
	switch alg {
	case jose.RS256:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		i.t.Fatal(err)
	}
	id := fmt.Sprintf("%s-%d", alg, time.Now().UnixNano())
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: private}, (&jose.SignerOptions{}).WithHeader("kid", id))
	if err != nil {
		i.t.Fatal(err)
	}
	return tokenSigner{i, signer}, jose.JSONWebKey{Key: private.Public(), KeyID: id, Use: "sig"}
}

// publish replaces the published keys.
func (i *tokenIssuer) publish(keys ...jose.JSONWebKey) {
	i.t.Helper()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err == nil {
		err = os.WriteFile(i.file+".new", text, 0o644)
	}
	if err == nil {
		err = os.Rename(i.file+".new", i.file)
	}
	if err != nil {
		i.t.Fatal(err)
	}
}

// token signs claims, after those that it has in any case.
func (s tokenSigner) token(change map[string]any) string {
	t := s.issuer.t
	t.Helper()
	claims := map[string]any{"iss": "https://issuer.example", "sub": "alice", "aud": "shop", "exp": time.Now().Add(time.Hour).Unix(), "groups": []string{"buyers"}}
	for name, value := range change {
		claims[name] = value
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

const requestAuthentication = `---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: shop, namespace: default}
spec:
  selector: {matchLabels: {app: server}}
  jwtRules:
    - issuer: https://issuer.example
      audiences: [shop]
      jwksUri: http://%s/keys.json
      outputClaimToHeaders: [{header: X-User, claim: sub}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: shop, namespace: default}
spec:
  selector: {matchLabels: {app: server}}
  rules:
    - to: [{operation: {paths: [/open]}}]
    - from: [{source: {requestPrincipals: ["https://issuer.example/*"]}}]
      to: [{operation: {paths: [/shop]}}]
      when: [{key: "request.auth.claims[groups]", values: [buyers]}]
`

// TestTokens: the controller fetches the keys of an issuer, and the agent of the server's node
// judges tokens by them, for clients of the same node and of another, in and outside the mesh,
// in both protocols. The issuer may replace its keys, and be away.
func TestTokens(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	issuer := &tokenIssuer{t: t, file: filepath.Join(dir, "keys.json")}
	rs, rsKey := issuer.key(jose.RS256)
	es, esKey := issuer.key(jose.ES256)
	ed, edKey := issuer.key(jose.EdDSA)
	next, nextKey := issuer.key(jose.ES256)
	issuer.publish(rsKey, esKey, edKey)
	outsider, keys := clientPod("outsider", node1), podSpec{Name: "issuer", Node: node1, Command: []string{"labtest", "files", dir}, Ports: []int{8080}}
	outsider.Labels = nil
	l := lab.Up(t, lab.Options{}, manifests(clientPod("far", node1), clientPod("near", node2), outsider, serverPod("server", node2), keys))
	waitEnrolled(t, l, "default/far", "default/near", "default/server")
	server := addrPort(l.Pod("server").IP(), 8080)
	get := func(client string, http2 bool, path, token string, more ...string) string {
		args := append([]string{"labtest", "get", "-i", fmt.Sprint("--http2=", http2), "-H", "X-User: root"}, more...)
		if token != "" {
			args = append(args, "-H", "Authorization: Bearer "+token)
		}
		return l.TryExec(client, append(args, "http://"+server+path)...).Stdout
	}
	l.Apply(fmt.Sprintf(requestAuthentication, addrPort(l.Pod("issuer").IP(), 8080)))
	l.Eventually(patience, func() error {
		if out := get("far", false, "/shop", es.token(nil)); !strings.Contains(out, " 200 OK\n") || strings.Contains(out, "root") {
			return fmt.Errorf("the rules are not in force: %s", out)
		}
		return nil
	})
	good, refused, bad := " 200 OK\n", " 403 Forbidden\n", " 401 Unauthorized\n"
	cases := []struct{ name, path, token, want, also string }{
		{"RS256", "/shop", rs.token(nil), good, `"X-User":["alice"]`},
		{"ES256", "/shop", es.token(nil), good, `"X-User":["alice"]`},
		{"EdDSA", "/shop", ed.token(nil), good, `"X-User":["alice"]`},
		{"no token", "/shop", "", refused, "policy-denied"},
		{"no token, open", "/open", "", good, ""},
		{"another group", "/shop", es.token(map[string]any{"groups": []string{"sellers"}}), refused, "policy-denied"},
		{"expired", "/open", es.token(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), bad, "the token has expired"},
		{"audience", "/shop", es.token(map[string]any{"aud": "bank"}), bad, "another audience"},
		{"issuer", "/shop", es.token(map[string]any{"iss": "https://other.example"}), bad, "issuer is not allowed"},
		{"another key", "/shop", next.token(nil), bad, "not one of its issuer"},
		{"none", "/open", "eyJhbGciOiJub25lIn0.e30.", bad, `Www-Authenticate: Bearer error="invalid_token"`},
	}
	for _, client := range []string{"far", "near", "outsider"} {
		for _, http2 := range []bool{false, true} {
			for _, c := range cases {
				out := get(client, http2, c.path, c.token)
				if !strings.Contains(out, c.want) || !strings.Contains(strings.ReplaceAll(out, " ", ""), strings.ReplaceAll(c.also, " ", "")) || strings.Contains(out, "root") || strings.Contains(out, `"Authorization"`) {
					t.Errorf("%s, HTTP/2 %v, %s: got %s, want%s with %s", client, http2, c.name, out, c.want, c.also)
				}
			}
			call := get(client, http2, "/open", "x.y.z", "-X", "POST", "-H", "Content-Type: application/grpc", "-H", "TE: trailers")
			if !strings.Contains(call, "Grpc-Status: 16\r\n") {
				t.Errorf("%s, HTTP/2 %v: a call with a bad token: %s, want UNAUTHENTICATED", client, http2, call)
			}
		}
	}
	if out := l.NodeExec(node2, "labtest", "get", "-i", "-H", "Authorization: Bearer x", "http://"+server+"/shop"); !strings.Contains(out, good) {
		t.Errorf("a probe of the pod's own node: %s", out)
	}
	if r := say(l, "far", addrPort(l.Pod("server").IP(), 7000), "let me in"); r.Code == 0 && strings.Contains(r.Stdout, "let me in") {
		t.Error("bytes that are no request are let in")
	}

	// The issuer replaces a key: tokens of the new one are good soon, as agents see a key
	// that they do not know, and those of the old one are not.
	issuer.publish(rsKey, nextKey)
	l.Eventually(2*patience, func() error {
		if out := get("near", true, "/shop", next.token(nil)); !strings.Contains(out, good) {
			return fmt.Errorf("the new key is not known: %s", out)
		}
		return nil
	})
	if out := get("far", false, "/shop", es.token(nil)); !strings.Contains(out, bad) {
		t.Errorf("a token of the key that was replaced: %s", out)
	}
	// It goes away: its keys stay.
	if err := os.Remove(issuer.file); err != nil {
		t.Fatal(err)
	}
	_, _ = get("far", false, "/shop", ed.token(nil)), get("far", false, "/shop", next.token(nil))
	if out := get("far", false, "/shop", rs.token(nil)); !strings.Contains(out, good) {
		t.Errorf("the issuer is away: %s", out)
	}
}
