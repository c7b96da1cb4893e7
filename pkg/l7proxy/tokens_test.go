package l7proxy

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/jwt"
	"github.com/underlane/underlane/pkg/state"
)

// issuer signs tokens.
type issuer struct {
	t      *testing.T
	signer jose.Signer
	keys   string
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: private}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "k"}}})
	if err != nil {
		t.Fatal(err)
	}
	keys, _, err := jwt.PublicKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t, signer, keys}
}

func (i *issuer) token(claims map[string]any) string {
	i.t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		i.t.Fatal(err)
	}
	signed, err := i.signer.Sign(payload)
	if err != nil {
		i.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return text
}

// ruleSpec puts policies in force.
func (g *guardedPod) ruleSpec(spec *authz.Spec) {
	g.t.Helper()
	g.version++
	rules, problems := authz.CompileWorkload(spec)
	if len(problems) > 0 {
		g.t.Fatal(problems)
	}
	w := *g.pod
	w.Authorized, w.RequestRules = true, true
	version := fmt.Sprint(g.version)
	if err := g.store.Apply(state.Delta{Version: uint64(g.version), Resources: []state.Resource{
		{Name: state.AuthzName(w.UID), Version: version, Authz: &state.Authz{UID: w.UID, Rules: rules}},
		{Name: state.WorkloadName(w.UID), Version: version, Workload: &w},
	}}); err != nil {
		g.t.Fatal(err)
	}
}

// TestTokens: a bad token is refused with 401, policies see the claims of a good one, and the
// application gets what the rule says, in both protocols.
func TestTokens(t *testing.T) {
	by := newIssuer(t)
	good := by.token(map[string]any{"iss": "i", "sub": "alice", "role": "admin", "exp": time.Now().Add(time.Hour).Unix()})
	user := by.token(map[string]any{"iss": "i", "sub": "bob", "role": "user"})
	expired := by.token(map[string]any{"iss": "i", "sub": "alice", "role": "admin", "exp": time.Now().Add(-time.Hour).Unix()})
	spec := &authz.Spec{
		TrustDomain: "td",
		Tokens: []authz.TokenRule{{
			Issuer: "i", Keys: by.keys, PayloadHeader: "X-Payload", ClaimHeaders: []authz.TokenCopy{{Header: "X-Role", Claim: []string{"role"}}},
		}},
		Groups: []authz.Group{{Name: "g", Unmatched: authz.ModeDeny, Policies: []authz.Policy{{Name: "p", Action: authz.ActionAllow, Rules: []authz.Rule{
			{To: []authz.Operation{{Paths: []authz.Match{{Value: "/open"}}}}},
			{To: []authz.Operation{{Paths: []authz.Match{{Value: "/subject"}}}}, From: []authz.Source{{RequestPrincipals: []authz.Match{{Value: "i/alice"}}}}},
			{To: []authz.Operation{{Paths: []authz.Match{{Value: "/claim"}}}}, When: []authz.Condition{{Kind: authz.ConditionClaim, Claim: []string{"role"}, Values: []authz.Match{{Value: "admin"}}}}},
			{To: []authz.Operation{{Paths: []authz.Match{{Value: "/field"}}}}, When: []authz.Condition{{Kind: authz.ConditionHeader, Name: "x-role", Values: []authz.Match{{Value: "admin"}}}}},
		}}}}},
	}
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s role=%q payload=%v token=%v", r.RequestURI, append(r.Header["X-Role"], r.Header["X_role"]...), len(r.Header["X-Payload"]), r.Header.Get("Authorization") != "")
			}))
			app.Config.Protocols = new(http.Protocols)
			app.Config.Protocols.SetHTTP1(true)
			app.Config.Protocols.SetUnencryptedHTTP2(true)
			app.Start()
			defer app.Close()
			g := guard(t, app.Listener.Addr().String())
			protocols := new(http.Protocols)
			protocols.SetHTTP1(!http2)
			protocols.SetUnencryptedHTTP2(http2)
			transport := &http.Transport{Protocols: protocols}
			defer transport.CloseIdleConnections()
			ask := func(path, token, contentType string) (string, http.Header) {
				t.Helper()
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.addr.String()+path, strings.NewReader("body"))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", contentType)
				if token != "" {
					r.Header.Set("Authorization", "Bearer "+token)
				}
				r.Header["X-Role"], r.Header["X-Payload"] = []string{"admin", "root"}, []string{"x"} // forged
				r.Header["X_Role"] = []string{"wsgi"}                                                // some applications read it as the same
				resp, err := transport.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				return fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(string(body))), resp.Header
			}
			g.rule(nil)
			if got, _ := ask("/open", expired, ""); got != `200 /open role=["admin" "root" "wsgi"] payload=1 token=true` {
				t.Errorf("without a rule: %s", got)
			}
			g.ruleSpec(spec)
			const denied = "403 the server's policy does not allow this client"
			for _, c := range []struct{ path, token, want string }{
				{"/open", "", `200 /open role=[] payload=0 token=false`},
				{"/open", good, `200 /open role=["admin"] payload=1 token=false`},
				{"/open?a=b&access_token=" + good + "&c", "", `200 /open?a=b&c role=["admin"] payload=1 token=false`},
				{"/open", user, `200 /open role=["user"] payload=1 token=false`},
				{"/open", "bad", "401 the request's token is not good: the token is malformed"},
				{"/open", expired, "401 the request's token is not good: the token has expired"},
				{"/open?access_token=bad", "", "401 the request's token is not good: the token is malformed"},
				{"/subject", "", denied},
				{"/subject", user, denied},
				{"/subject", good, `200 /subject role=["admin"] payload=1 token=false`},
				{"/claim", "", denied},
				{"/claim", user, denied},
				{"/claim", good, `200 /claim role=["admin"] payload=1 token=false`},
				{"/field", "", denied}, // it was forged
				{"/field", user, denied},
				{"/field", good, `200 /field role=["admin"] payload=1 token=false`},
			} {
				if got, head := ask(c.path, c.token, "text/plain"); got != c.want || strings.HasPrefix(got, "401") != (head.Get("Www-Authenticate") != "") {
					t.Errorf("%s: got %s %v, want %s", c.path, got, head, c.want)
				}
			}
			_, head := ask("/open", expired, "text/plain")
			if got, want := head.Get("Www-Authenticate"), `Bearer error="invalid_token", error_description="the token has expired"`; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if got := head.Get("Underlane-Reason"); got != "bad-token" {
				t.Errorf("reason %q", got)
			}
			if got, head := ask("/open", expired, "application/grpc"); !strings.HasPrefix(got, "200") || head.Get("Grpc-Status") != "16" {
				t.Errorf("gRPC: %s %v, want UNAUTHENTICATED", got, head)
			}
		})
	}
}
