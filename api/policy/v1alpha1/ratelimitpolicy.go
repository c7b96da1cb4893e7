package v1alpha1

import (
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Names of RateLimitPolicy.
const (
	RateLimitKind     = "RateLimitPolicy"
	RateLimitResource = "ratelimitpolicies"
)

// RateLimitScope says who counts together.
type RateLimitScope string

// The scopes.
const (
	ScopeCluster RateLimitScope = "Cluster" // all selected pods
	ScopeNode    RateLimitScope = "Node"    // those of one node
)

// RateLimitPolicySpec limits the requests to the pods that it selects.
type RateLimitPolicySpec struct {
	// TargetRefs selects pods of the policy's namespace, as those of AuthorizationPolicy do.
	TargetRefs []PolicyTargetReferenceWithLabelSelectors `json:"targetRefs"`
	Scope      RateLimitScope                            `json:"scope,omitempty"` // "": Cluster
	// Limits: a request has to be within each of those that are about it.
	Limits []RateLimit `json:"limits"`
}

// RateLimit is a number of requests in a time.
type RateLimit struct {
	Name     string             `json:"name,omitempty"` // unique in the policy
	Requests int64              `json:"requests"`
	Per      gatewayv1.Duration `json:"per,omitempty"`   // "": 1s
	Burst    *int64             `json:"burst,omitempty"` // requests at once; nil: Requests
	// By says what is counted by itself: requests that differ in one of these. Without any,
	// all requests are counted together.
	By []RateLimitBy `json:"by,omitempty"`
	// Where matches the requests that the limit is about; nil: all.
	Where *RateLimitWhere `json:"where,omitempty"`
}

// RateLimitByType says which part of a request is meant.
type RateLimitByType string

// The types. Requests without the part are counted together.
const (
	ByIdentity  RateLimitByType = "Identity"  // of the client
	ByNamespace RateLimitByType = "Namespace" // of the client
	ByHeader    RateLimitByType = "Header"    // with all of its values
	ByClaim     RateLimitByType = "Claim"     // of the request's token (RequestAuthentication)
	ByPath      RateLimitByType = "Path"      // without the query
)

// RateLimitBy is a part of a request.
type RateLimitBy struct {
	Type   RateLimitByType           `json:"type"`
	Header *gatewayv1.HTTPHeaderName `json:"header,omitempty"` // with ByHeader
	Claim  []string                  `json:"claim,omitempty"`  // with ByClaim: the path to it
}

// RateLimitWhere matches if all of its fields do. They are those of AuthorizationRule.
type RateLimitWhere struct {
	Sources           []AuthorizationSource           `json:"sources,omitzero"`
	NetworkAttributes *AuthorizationNetworkAttributes `json:"networkAttributes,omitempty"`
	Authorization     *AuthorizationAttributes        `json:"authorization,omitempty"`
}
