package ownpolicy

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/api/policy/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/policyobject"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Bounds of a RateLimitPolicy.
const (
	maxLimits = 16
	maxBy     = 8
	maxPer    = 24 * time.Hour
	// mostRequests is more than one node can serve, and still well counted in nanoseconds.
	mostRequests = 1_000_000_000
)

// RateLimits is a RateLimitPolicy, translated. What is not understood fails closed:
//
//   - A field of where that is not known is left out, as in a rule that denies: more requests
//     are limited. So it is with everything in where if another field of the limit, or of the
//     object, is not known.
//   - What is not known in by is left out: requests are counted together that should not be.
//   - A limit without a rate that is understood lets in no request that it is about.
//   - A target that is not understood is all pods of the namespace, and a scope that is not
//     known is Cluster.
//
// The condition Accepted says so. A limit protects its server: one that is silently without
// effect would be found out by an overload.
type RateLimits struct {
	policyobject.Meta
	Limits   []authz.Limit // Nodes is 1 if the scope is Cluster
	Problems []authz.Problem
	Pods     labels.Selector // those of its namespace that it is about
}

// ReadRateLimits translates a RateLimitPolicy whose metadata is known. Only spec is read of
// object.
func ReadRateLimits(meta policyobject.Meta, object []byte, trustDomain string) *RateLimits {
	spec, unknown := policyobject.Read[v1alpha1.RateLimitPolicySpec](object)
	p := &RateLimits{Meta: meta}
	problem := func(limit int, field, text string) {
		p.Problems = append(p.Problems, authz.Problem{Policy: meta.String(), Rule: limit, Field: field, Text: text})
	}
	var err error
	if p.Pods, err = selector(&v1alpha1.AuthorizationPolicySpec{TargetRefs: spec.TargetRefs}); err != nil {
		p.Pods = labels.Everything()
		problem(0, "spec.targetRefs", err.Error()+": taken for all pods of the namespace")
	}
	if unknown.Broken {
		p.Pods, spec.Limits = labels.Everything(), []v1alpha1.RateLimit{{}}
		problem(0, "spec", "cannot be read: no request to any pod of the namespace is let in")
	}
	shared := uint32(1)
	switch spec.Scope {
	case v1alpha1.ScopeCluster, "":
	case v1alpha1.ScopeNode:
		shared = 0
	default:
		problem(0, "spec.scope", fmt.Sprintf("%q is not known: taken for Cluster", spec.Scope))
	}
	all, of := unknownLimits(unknown.Object)
	for _, field := range all {
		problem(0, field, "is not known: limits apply to all requests")
	}
	switch {
	case len(spec.Limits) == 0:
		problem(0, "spec.limits", "there is none: no request is let in")
		spec.Limits = make([]v1alpha1.RateLimit, 1)
	case len(spec.Limits) > maxLimits:
		problem(0, "spec.limits", fmt.Sprintf("has more than %d elements: the others have no effect, and the first lets in none", maxLimits))
		spec.Limits = spec.Limits[:maxLimits]
		spec.Limits[0] = v1alpha1.RateLimit{}
	}
	for i := range spec.Limits {
		t := limitReader{namespace: meta.Namespace, problem: func(field, text string) { problem(i+1, field, text) }}
		l := t.translate(&spec.Limits[i], len(all) > 0, of[i])
		l.Policy, l.Number, l.Nodes = meta.String(), i+1, shared
		p.Limits = append(p.Limits, l)
	}
	p.Problems = policyobject.Shorten(append(p.Problems, authz.CheckLimits(p.Limits, trustDomain)...))
	return p
}

// Status is as Policy.Status.
func (p *RateLimits) Status(controller gatewayv1.GatewayController) gatewayv1.PolicyAncestorStatus {
	return (&Policy{Meta: p.Meta, Problems: p.Problems}).Status(controller)
}

var inLimit = regexp.MustCompile(`^spec\.limits\[([0-9]+)\]\.`)

// unknownLimits returns the unknown fields that are in no limit, and those of limits by the
// limit's index.
func unknownLimits(fields []string) (all []string, of map[int][]string) {
	of = map[int][]string{}
	for _, f := range fields {
		m := inLimit.FindStringSubmatch(f)
		if m == nil {
			all = append(all, f)
			continue
		}
		i, _ := strconv.Atoi(m[1])
		of[i] = append(of[i], strings.TrimPrefix(f, m[0]))
	}
	return all, of
}

// limitReader translates one limit.
type limitReader struct {
	namespace string
	problem   func(field, text string)
}

// translate translates a limit. everywhere: where is not looked at.
func (t *limitReader) translate(in *v1alpha1.RateLimit, everywhere bool, unknown []string) authz.Limit {
	out := authz.Limit{Name: in.Name}
	var inWhere []string
	for _, field := range unknown {
		switch {
		case strings.HasPrefix(field, "where"):
			inWhere = append(inWhere, field)
		case strings.HasPrefix(field, "by"):
			t.problem(field, "is not known: what differs in it alone is counted together")
		default:
			t.problem(field, "is not known: the limit applies to all requests")
			everywhere = true
		}
	}
	t.rate(in, &out)
	t.by(in.By, &out)
	if in.Where == nil || everywhere {
		return out
	}
	r := rule{namespace: t.namespace, level: v1alpha1.EnforcementApplication}
	r.out.Unknown = inWhere
	r.translate(&v1alpha1.AuthorizationRule{
		Sources: in.Where.Sources, NetworkAttributes: in.Where.NetworkAttributes, Authorization: in.Where.Authorization,
	})
	out.Where = r.out
	return out
}

func (t *limitReader) rate(in *v1alpha1.RateLimit, out *authz.Limit) {
	per, err := time.Second, error(nil)
	if in.Per != "" {
		per, err = time.ParseDuration(string(in.Per)) // a superset of GEP-2257
	}
	burst := in.Requests
	if in.Burst != nil {
		burst = *in.Burst
	}
	switch {
	case err != nil || per < time.Millisecond || per > maxPer:
		t.problem("per", fmt.Sprintf("%q, want 1ms to 24h: no request is let in", in.Per))
	case in.Requests < 1 || in.Requests > mostRequests:
		t.problem("requests", fmt.Sprintf("%d, want 1 to %d: no request is let in", in.Requests, mostRequests))
	case burst < 1 || burst > mostRequests:
		t.problem("burst", fmt.Sprintf("%d, want 1 to %d: no request is let in", burst, mostRequests))
	default:
		out.Requests, out.Per, out.Burst = uint32(in.Requests), per, uint32(burst)
	}
}

func (t *limitReader) by(in []v1alpha1.RateLimitBy, out *authz.Limit) {
	if len(in) > maxBy {
		t.problem("by", fmt.Sprintf("has more than %d elements: all requests are counted together", maxBy))
		return
	}
	for i := range in {
		d, err := distinct(&in[i])
		if err != nil {
			t.problem(fmt.Sprintf("by[%d]", i), err.Error()+": what differs in it alone is counted together")
			continue
		}
		out.By = append(out.By, d)
	}
}

var plainBy = map[v1alpha1.RateLimitByType]authz.DistinctKind{
	v1alpha1.ByIdentity: authz.DistinctIdentity, v1alpha1.ByNamespace: authz.DistinctNamespace, v1alpha1.ByPath: authz.DistinctPath,
}

func distinct(in *v1alpha1.RateLimitBy) (authz.Distinct, error) {
	switch {
	case in.Type == v1alpha1.ByHeader && in.Header != nil && *in.Header != "" && in.Claim == nil:
		return authz.Distinct{Kind: authz.DistinctHeader, Name: lower(string(*in.Header))}, nil
	case in.Type == v1alpha1.ByClaim && len(in.Claim) > 0 && len(in.Claim) <= maxBy && in.Header == nil:
		return authz.Distinct{Kind: authz.DistinctClaim, Claim: in.Claim}, nil
	}
	kind, ok := plainBy[in.Type]
	if !ok || in.Header != nil || in.Claim != nil {
		return authz.Distinct{}, errors.New("want Identity, Namespace or Path alone, Header with header, or Claim with claim")
	}
	return authz.Distinct{Kind: kind}, nil
}
