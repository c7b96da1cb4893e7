package e2e

import (
	"fmt"
	"strings"
)

// Ports of the two applications that write down what arrives.
const (
	rawPort = 8081 // the bytes of HTTP/1, whatever they are
	h2Port  = 8082 // requests that Go's server has understood
)

// attacked is a set of rules by which only requests to the host ok.example below /public are let in, or all
// but those to the host admin.example or below /admin.
type attacked struct {
	rules string
	to    string // the host part of the address; "": the pod
	token string // a field of what is let in
	// friends: only the pods of the service account friend are let in, whatever they ask for.
	friends bool
}

const attackedService = `---
apiVersion: v1
kind: Service
metadata: {name: asked, namespace: default}
spec: {selector: {app: server}, ports: [{name: raw, port: 8081}, {name: h2, port: 8082}]}
---
apiVersion: v1
kind: Service
metadata: {name: authorizer, namespace: default}
spec: {selector: {app: authorizer}, ports: [{port: 80, targetPort: 8080}]}
`

func attackedOwn(action, rules string) string {
	return fmt.Sprintf(`---
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: attacked, namespace: default}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: server}}}]
  action: %s
  enforcementLevel: Application
  rules: [%s]
`, action, rules)
}

func attackedIstio(action, rules string) string {
	return fmt.Sprintf("---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: attacked, namespace: default}\nspec: {selector: {matchLabels: {app: server}}, action: %s, rules: [%s]}\n", action, rules)
}

// attackedPorts has a manifest for each port.
func attackedPorts(format string) (out string) {
	for _, port := range []int{rawPort, h2Port} {
		out += strings.ReplaceAll(format, "PORT", fmt.Sprint(port))
	}
	return out
}

var attackedRules = map[string]attacked{
	"ours, deny": {rules: attackedOwn("DENY", `{authorization: {type: Inline, paths: [{type: PathPrefix, value: /admin}]}}, {authorization: {type: Inline, hosts: [admin.example]}}`)},
	"ours, allow": {rules: attackedOwn("ALLOW",
		`{authorization: {type: Inline, paths: [{type: PathPrefix, value: /public}], hosts: [ok.example]}}`)},
	"ours, CEL": {rules: attackedOwn("ALLOW",
		`{authorization: {type: CEL, cel: {expression: 'request.path.startsWith("/public/") && request.host == "ok.example"'}}}`)},
	"istio, deny":  {rules: attackedIstio("DENY", `{to: [{operation: {paths: [/admin, /admin/*]}}, {operation: {hosts: [admin.example]}}]}`)},
	"istio, allow": {rules: attackedIstio("ALLOW", `{to: [{operation: {paths: [/public/*], hosts: [ok.example]}}]}`)},
	"ours, who": {friends: true, rules: `---
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: attacked, namespace: default}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: server}}}]
  action: ALLOW
  enforcementLevel: Network
  rules: [{sources: [{type: ServiceAccount, serviceAccount: {name: friend}}]}]
`},
	"istio, who":     {friends: true, rules: attackedIstio("ALLOW", `{from: [{source: {principals: [cluster.local/ns/default/sa/friend]}}]}`)},
	"istio, who not": {friends: true, rules: attackedIstio("DENY", `{from: [{source: {notPrincipals: [cluster.local/ns/default/sa/friend]}}]}`)},
	"linkerd, who": {friends: true, rules: attackedPorts(`---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: attacked-PORT, namespace: default}
spec: {podSelector: {matchLabels: {app: server}}, port: PORT}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: attacked-PORT, namespace: default}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: attacked-PORT}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: friend}]
`)},
	"linkerd": {rules: attackedPorts(`---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: attacked-PORT, namespace: default}
spec: {podSelector: {matchLabels: {app: server}}, port: PORT}
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: attacked-PORT, namespace: default}
spec:
  hostnames: [ok.example]
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: attacked-PORT}]
  rules: [{matches: [{path: {type: PathPrefix, value: /public}}]}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: attacked-PORT, namespace: default}
spec: {targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: attacked-PORT}, requiredAuthenticationRefs: []}
`)},
	"egress": {to: "203.0.113.7", rules: fmt.Sprintf(egressNetwork, "default", "Deny") + attackedPorts(`---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: attacked-PORT, namespace: default}
spec:
  hostnames: [ok.example]
  parentRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: all, port: PORT}]
  rules: [{matches: [{path: {value: /public}}]}]
`)},
	"external": {to: "asked.default", token: "good", rules: attackedPorts(`---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: attacked-PORT, namespace: default}
spec:
  parentRefs: [{group: "", kind: Service, name: asked, port: PORT}]
  rules:
    - filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, grpc: {}, backendRef: {name: authorizer, port: 80}}}]
      backendRefs: [{name: asked, port: PORT}]
`)},
}
