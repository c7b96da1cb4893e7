package full

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"
)

const (
	tokenIssuer  = "https://kubernetes.default.svc"
	agentAccount = "underlane-agent"
)

// token returns a token as the kubelet of a node projects it for the agent's pod (RFC 7519,
// ES256). The API server has the key.
func (p *plane) token(node string) (string, error) {
	now := time.Now()
	pod := agentAccount + "-" + node
	claims, err := json.Marshal(map[string]any{
		"iss": tokenIssuer, "aud": []string{"underlane.io/controller"}, "sub": "system:serviceaccount:" + system + ":" + agentAccount,
		"iat": now.Unix(), "nbf": now.Unix() - 10, "exp": now.Add(time.Hour).Unix(), "jti": pod,
		"kubernetes.io": map[string]any{
			"namespace": system, "serviceaccount": map[string]string{"name": agentAccount, "uid": agentAccount},
			"pod": map[string]string{"name": pod, "uid": pod}, "node": map[string]string{"name": node, "uid": nodeUID(node)},
		},
	})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, sum[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
