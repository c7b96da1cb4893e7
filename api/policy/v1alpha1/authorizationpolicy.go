// Package v1alpha1 has the Go types of policy.underlane.io/v1alpha1: AuthorizationPolicy and
// RateLimitPolicy.
//
// The fields of AuthorizationPolicy are those of GEP-3779, the AuthorizationPolicy that the Gateway API plans.
// AuthorizationRule.Name and AuthorizationRule.Authorization are those of XAccessPolicy
// (agentic.networking.x-k8s.io/v1alpha1). So objects can move to the upstream API by a change
// of their apiVersion. The actions DENY and AUDIT, and the enforcement level Application,
// are reserved there.
//
// A reader that must notice fields which it does not know decodes objects with
// pkg/controller/ownpolicy, not into these types.
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Names of the API.
const (
	Group    = "policy.underlane.io"
	Version  = "v1alpha1"
	Kind     = "AuthorizationPolicy"
	Resource = "authorizationpolicies"
)

// AuthorizationPolicy says which clients may reach the pods that it selects, and with
// which requests.
type AuthorizationPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AuthorizationPolicySpec `json:"spec"`
	Status gatewayv1.PolicyStatus  `json:"status,omitzero"`
}

// AuthorizationPolicyList is a list of them.
type AuthorizationPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AuthorizationPolicy `json:"items"`
}

// AuthorizationPolicyAction is what happens where a rule matches.
type AuthorizationPolicyAction string

// The actions. A request is allowed if no DENY policy matches and, where there are ALLOW
// policies for the pod, one of them does.
const (
	ActionAllow AuthorizationPolicyAction = "ALLOW"
	ActionDeny  AuthorizationPolicyAction = "DENY"
	ActionAudit AuthorizationPolicyAction = "AUDIT" // reported, and nothing else
)

// EnforcementLevel says which attributes rules may have.
type EnforcementLevel string

// The enforcement levels.
const (
	EnforcementNetwork     EnforcementLevel = "Network"     // those of a connection
	EnforcementApplication EnforcementLevel = "Application" // those of requests too
)

// AuthorizationPolicySpec is what a policy says.
type AuthorizationPolicySpec struct {
	// TargetRefs selects pods of the policy's namespace: one reference of the kind Pod, with
	// a selector.
	TargetRefs []PolicyTargetReferenceWithLabelSelectors `json:"targetRefs"`
	Action     AuthorizationPolicyAction                 `json:"action"`
	// Rules: the action is taken if one of them matches. Without rules, none does.
	Rules            []AuthorizationRule `json:"rules,omitempty"`
	EnforcementLevel EnforcementLevel    `json:"enforcementLevel"`
}

// PolicyTargetReferenceWithLabelSelectors refers to a set of objects.
type PolicyTargetReferenceWithLabelSelectors struct {
	Group gatewayv1.Group `json:"group"` // "" or "core"
	Kind  gatewayv1.Kind  `json:"kind"`  // Pod
	// Name is for other kinds than Pod.
	Name     gatewayv1.ObjectName  `json:"name,omitempty"`
	Selector *metav1.LabelSelector `json:"selector,omitempty"` // the empty one selects all pods of the namespace
}

// AuthorizationRule matches if its sources and its attributes match.
type AuthorizationRule struct {
	// Name is shown where the rule decides. It is unique in the policy.
	Name string `json:"name,omitempty"`
	// Sources: one of them has to match. nil: any client; an empty list: none.
	Sources           []AuthorizationSource           `json:"sources,omitzero"`
	NetworkAttributes *AuthorizationNetworkAttributes `json:"networkAttributes,omitempty"`
	// Authorization needs the enforcement level Application.
	Authorization *AuthorizationAttributes `json:"authorization,omitempty"`
}

// AuthorizationSourceType says which field of a source is set.
type AuthorizationSourceType string

// The types of sources.
const (
	SourceServiceAccount AuthorizationSourceType = "ServiceAccount"
	SourceSPIFFE         AuthorizationSourceType = "SPIFFE"
)

// AuthorizationSource is an identity that a client has proven.
type AuthorizationSource struct {
	Type AuthorizationSourceType `json:"type"`
	// SPIFFE is a SPIFFE ID, of any trust domain.
	SPIFFE *string `json:"spiffe,omitempty"`
	// ServiceAccount is one of the pod's own trust domain.
	ServiceAccount *AuthorizationSourceServiceAccount `json:"serviceAccount,omitempty"`
}

// AuthorizationSourceServiceAccount names a service account.
type AuthorizationSourceServiceAccount struct {
	Namespace *gatewayv1.Namespace `json:"namespace,omitempty"` // nil: that of the policy
	Name      string               `json:"name"`                // "*": all of the namespace
}

// AuthorizationNetworkAttributes are those of a connection.
type AuthorizationNetworkAttributes struct {
	Ports []gatewayv1.PortNumber `json:"ports,omitempty"` // of the pod; empty: all
}

// AuthorizationType says which fields of AuthorizationAttributes count.
type AuthorizationType string

// The types.
const (
	AuthorizationInline AuthorizationType = "Inline" // all fields except CEL
	AuthorizationCEL    AuthorizationType = "CEL"    // CEL alone
)

// AuthorizationAttributes are those of requests. All fields that are set have to match. Of
// a field's values one has to match, except of Headers, of which all have to.
type AuthorizationAttributes struct {
	Type    AuthorizationType           `json:"type"`
	CEL     *AuthorizationExpression    `json:"cel,omitempty"`
	Methods []gatewayv1.HTTPMethod      `json:"methods,omitempty"`
	Paths   []gatewayv1.HTTPPathMatch   `json:"paths,omitempty"` // of the type PathPrefix if they have none
	Headers []gatewayv1.HTTPHeaderMatch `json:"headers,omitempty"`
	Hosts   []gatewayv1.Hostname        `json:"hosts,omitempty"` // *.example.com: all names below
	Ports   []gatewayv1.PortNumber      `json:"ports,omitempty"` // of the pod
}

// AuthorizationExpression is a condition in CEL (cel.dev).
type AuthorizationExpression struct {
	Expression string `json:"expression"` // of the type bool; docs/policy.md has the variables
}
