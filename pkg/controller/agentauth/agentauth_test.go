package agentauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/controller/apitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var nodeNet = netip.MustParsePrefix("192.0.2.0/24")

const agentName = "system:serviceaccount:underlane-system:underlane-agent"

// token looks like a service account's; signature is what the fake API server
// goes by.
func token(t *testing.T, claims map[string]any, signature string) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return "e30." + base64.RawURLEncoding.EncodeToString(payload) + "." + signature
}

func agentClaims() map[string]any {
	return map[string]any{"sub": agentName, "aud": []string{Audience}, "exp": time.Now().Add(time.Hour).Unix()}
}

// reviewer answers like an API server: a token with the signature "good" is
// that of user.
func reviewer(t *testing.T, user authv1.UserInfo) (*Reviewer, *apitest.Server) {
	s := apitest.New(t)
	s.Review(func(token string, audiences []string) authv1.TokenReviewStatus {
		if !strings.HasSuffix(token, ".good") {
			return authv1.TokenReviewStatus{Error: "invalid bearer token"}
		}
		return authv1.TokenReviewStatus{Authenticated: true, User: user, Audiences: audiences}
	})
	return New(s.Client(), "underlane-system", func(a netip.Addr) bool { return nodeNet.Contains(a) }), s
}

func onNode(node string) authv1.UserInfo {
	return authv1.UserInfo{Username: agentName, Extra: map[string]authv1.ExtraValue{extraNode: {node}}}
}

func TestAgentIsRecognised(t *testing.T) {
	r, _ := reviewer(t, onNode("n1"))
	if err := r.Authenticate(t.Context(), "n1", token(t, agentClaims(), "good")); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	edit := func(name string, value any) map[string]any {
		c := agentClaims()
		c[name] = value
		return c
	}
	otherUser := onNode("n1")
	otherUser.Username = "system:serviceaccount:shop:web"
	for name, tc := range map[string]struct {
		claims    map[string]any
		signature string
		user      authv1.UserInfo
		want      string
		asked     int // TokenReviews
	}{
		"forged":                      {agentClaims(), "forged", onNode("n1"), "does not accept", 1},
		"another node's":              {agentClaims(), "good", onNode("n2"), "on node n2, not on n1", 1},
		"another account's":           {edit("sub", "system:serviceaccount:shop:web"), "good", otherUser, "shop:web", 0},
		"another account's, pretends": {agentClaims(), "good", otherUser, "shop:web", 1},
		"same name elsewhere":         {edit("sub", "system:serviceaccount:shop:underlane-agent"), "good", otherUser, "shop:underlane-agent", 0},
		"for the API server":          {edit("aud", "https://kubernetes.default.svc"), "good", onNode("n1"), "made out to", 0},
		"expired":                     {edit("exp", time.Now().Add(-time.Minute).Unix()), "good", onNode("n1"), "expired", 0},
		"bound to nothing":            {agentClaims(), "good", authv1.UserInfo{Username: agentName}, "bound to no pod", 1},
	} {
		t.Run(name, func(t *testing.T) {
			r, s := reviewer(t, tc.user)
			err := r.Authenticate(t.Context(), "n1", token(t, tc.claims, tc.signature))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if _, isStatus := status.FromError(err); isStatus {
				t.Errorf("%v is no refusal", err)
			}
			if got := s.Requests("POST tokenreviews"); got != tc.asked {
				t.Errorf("%d TokenReviews, want %d", got, tc.asked)
			}
		})
	}
	r, s := reviewer(t, onNode("n1"))
	for _, rubbish := range []string{"", "x", "a.b", "a.!.c", "e30.e30.e30", "e30.W10.x", strings.Repeat("x", maxToken+1)} {
		if err := r.Authenticate(t.Context(), "n1", rubbish); err == nil {
			t.Errorf("%.20q was accepted", rubbish)
		}
	}
	if s.Requests("POST tokenreviews") != 0 {
		t.Error("the API server was bothered with rubbish")
	}
}

// TestAudienceIsChecked: an API server that does not know audiences returns
// none, and its word on the token is then about itself.
func TestAudienceIsChecked(t *testing.T) {
	r, s := reviewer(t, onNode("n1"))
	s.Review(func(string, []string) authv1.TokenReviewStatus {
		return authv1.TokenReviewStatus{Authenticated: true, User: onNode("n1")}
	})
	if err := r.Authenticate(t.Context(), "n1", token(t, agentClaims(), "good")); err == nil || !strings.Contains(err.Error(), "made out to") {
		t.Error(err)
	}
}

// TestPodSaysTheNode is the way of API servers before 1.30.
func TestPodSaysTheNode(t *testing.T) {
	bound := func(uid string) authv1.UserInfo {
		return authv1.UserInfo{Username: agentName, Extra: map[string]authv1.ExtraValue{extraPod: {"agent-x"}, extraPodUID: {uid}}}
	}
	for name, tc := range map[string]struct {
		user authv1.UserInfo
		node string
		want string
	}{
		"its node":            {bound("u1"), "n1", ""},
		"another node":        {bound("u1"), "n2", "on node n1, not on n2"},
		"its successor's pod": {bound("u0"), "n1", "another has its name"},
	} {
		t.Run(name, func(t *testing.T) {
			r, s := reviewer(t, tc.user)
			_, err := s.Client().CoreV1().Pods("underlane-system").Create(t.Context(), &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: "agent-x", UID: "u1"}, Spec: corev1.PodSpec{NodeName: "n1"},
			}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			err = r.Authenticate(t.Context(), tc.node, token(t, agentClaims(), "good"))
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	r, _ := reviewer(t, bound("u1"))
	if err := r.Authenticate(t.Context(), "n1", token(t, agentClaims(), "good")); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Error(err)
	}
}

func TestAwayIsNoRefusal(t *testing.T) {
	r, s := reviewer(t, onNode("n1"))
	s.Stop()
	if err := r.Authenticate(t.Context(), "n1", token(t, agentClaims(), "good")); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Authenticate(ctx, "n1", token(t, agentClaims(), "good")); err == nil {
		t.Error("authenticated by a call that nobody waits for")
	}
}

// TestOneAddressTakesNobodysTurn: a pod that floods is stopped, an agent at
// another address is not.
func TestOneAddressTakesNobodysTurn(t *testing.T) {
	r, s := reviewer(t, onNode("n1"))
	from := func(ip string) context.Context {
		return peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}})
	}
	stopped := 0
	for range 100 {
		if err := r.Authenticate(from("10.1.0.66"), "n1", token(t, agentClaims(), "forged")); status.Code(err) == codes.ResourceExhausted {
			stopped++
		}
	}
	if asked := s.Requests("POST tokenreviews"); stopped < 80 || asked > 20 {
		t.Errorf("%d of 100 stopped, %d TokenReviews", stopped, asked)
	}
	if err := r.Authenticate(from("192.0.2.1"), "n1", token(t, agentClaims(), "good")); err != nil {
		t.Error(err)
	}
}

// TestPodsTakeNoTurnOfNodes: pods at many addresses use up what they have together, and an
// agent at the address of a node is reviewed at once. One node cannot take the turn of others.
func TestPodsTakeNoTurnOfNodes(t *testing.T) {
	r, s := reviewer(t, onNode("n1"))
	from := func(ip netip.Addr) context.Context {
		return peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{IP: ip.AsSlice(), Port: 1}})
	}
	for r.others.all.TryAccept() { // as many pods have done
	}
	late, cancel := context.WithTimeout(from(netip.MustParseAddr("10.1.0.66")), time.Millisecond)
	defer cancel()
	if err := r.Authenticate(late, "n1", token(t, agentClaims(), "good")); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a pod more: %v", err)
	}
	agent := netip.MustParseAddr("192.0.2.1")
	if err := r.Authenticate(from(agent), "n1", token(t, agentClaims(), "good")); err != nil {
		t.Errorf("an agent: %v", err)
	}
	for range 100 {
		_ = r.Authenticate(from(agent), "n1", token(t, agentClaims(), "forged"))
	}
	if asked := s.Requests("POST tokenreviews"); asked > 30 {
		t.Errorf("%d TokenReviews for one node", asked)
	}
}

// TestASlowAPIServerIsAskedLittle: only so many reviews run at a time, and the others wait until
// one ends.
func TestASlowAPIServerIsAskedLittle(t *testing.T) {
	r, s := reviewer(t, onNode("n1"))
	for range reviewsAtOnce {
		if err := r.nodes.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	from := peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}})
	late, cancel := context.WithTimeout(from, 10*time.Millisecond)
	defer cancel()
	if err := r.Authenticate(late, "n1", token(t, agentClaims(), "good")); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more at once: %v", err)
	}
	if n := s.Requests("POST tokenreviews"); n != 0 {
		t.Errorf("the API server was asked %d times", n)
	}
	r.nodes.leave()
	if err := r.Authenticate(from, "n1", token(t, agentClaims(), "good")); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}

func FuzzPlausible(f *testing.F) {
	f.Add("e30.e30.x")
	f.Add(fmt.Sprintf("a.%s.b", base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"x","aud":["y"],"exp":1e99}`))))
	r := New(nil, "underlane-system", nil)
	f.Fuzz(func(t *testing.T, text string) {
		if err := r.plausible(text); err == nil && !strings.Contains(text, ".") {
			t.Error("not even a token:", text)
		}
	})
}
