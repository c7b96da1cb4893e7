package translate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayx "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/mesh"
)

// addTrafficPolicies sets the retry budgets of Services. Of several policies for
// one Service the oldest counts (GEP-713).
func (t *translation) addTrafficPolicies(all []*gatewayx.XBackendTrafficPolicy) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b *gatewayx.XBackendTrafficPolicy) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	taken := map[*mesh.Service]string{}
	for _, p := range all {
		t.addTrafficPolicy(p, taken)
	}
}

// addTrafficPolicy adds one policy. taken has the Services that already have one.
func (t *translation) addTrafficPolicy(p *gatewayx.XBackendTrafficPolicy, taken map[*mesh.Service]string) {
	kind := custom.BackendTrafficPolicies.Kind
	budget, err := budgetOf(p.Spec.RetryConstraint)
	status := RouteStatus{Kind: kind, Namespace: p.Namespace, Name: p.Name}
	for i := range p.Spec.TargetRefs {
		ref := &p.Spec.TargetRefs[i]
		if !isCore(ref.Group) || ref.Kind != "Service" {
			continue // another controller handles it
		}
		svc := t.services[key(p.Namespace, string(ref.Name))]
		is, v := true, verdict{gatewayv1.RouteConditionReason(gatewayv1.PolicyReasonAccepted), "in effect"}
		switch {
		case svc == nil:
			is, v = false, verdict{
				gatewayv1.RouteConditionReason(gatewayv1.PolicyReasonTargetNotFound),
				fmt.Sprintf("there is no Service %s/%s with endpoints of its own", p.Namespace, ref.Name),
			}
		case err != nil:
			is, v = false, verdict{gatewayv1.RouteConditionReason(gatewayv1.PolicyReasonInvalid), err.Error()}
		case taken[svc] != "":
			is, v = false, verdict{
				gatewayv1.RouteConditionReason(gatewayv1.PolicyReasonConflicted),
				fmt.Sprintf("Service %s/%s has the older policy %s", p.Namespace, ref.Name, taken[svc]),
			}
		default:
			taken[svc], svc.RetryBudget = p.Name, budget
			if p.Spec.SessionPersistence != nil {
				v.text += "; ignored: sessionPersistence"
				t.problem(kind, p.Namespace, p.Name, "sessionPersistence: ignored")
			}
		}
		if !is {
			t.problem(kind, p.Namespace, p.Name, "targetRefs[%d]: %s", i, v.text)
		}
		status.Parents = append(status.Parents, gatewayv1.RouteParentStatus{
			ParentRef:      gatewayv1.ParentReference{Group: &ref.Group, Kind: &ref.Kind, Name: ref.Name},
			ControllerName: ControllerName,
			Conditions: []metav1.Condition{
				condition(gatewayv1.RouteConditionType(gatewayv1.PolicyConditionAccepted), is, v, p.Generation),
			},
		})
	}
	if len(status.Parents) > 0 {
		t.RouteStatuses = append(t.RouteStatuses, status)
	}
}

// budgetOf returns nil if p has no budget. Fields that are not set have the API
// server's defaults.
func budgetOf(c *gatewayx.RetryConstraint) (*mesh.RetryBudget, error) {
	if c == nil {
		return nil, nil
	}
	out := mesh.DefaultRetryBudget
	var err error
	if b := c.Budget; b != nil {
		if b.Percent != nil {
			out.Percent = *b.Percent
		}
		if b.Interval != nil {
			if out.Interval, err = gepDurationOf(*b.Interval); err != nil {
				return nil, fmt.Errorf("retryConstraint.budget.interval: %w", err)
			}
		}
	}
	if r := c.MinRetryRate; r != nil {
		if r.Count != nil {
			out.MinRetries = *r.Count
		}
		if r.Interval != nil {
			if out.MinInterval, err = gepDurationOf(*r.Interval); err != nil {
				return nil, fmt.Errorf("retryConstraint.minRetryRate.interval: %w", err)
			}
		}
	}
	switch {
	case out.Percent < 0 || out.Percent > 100:
		return nil, fmt.Errorf("retryConstraint.budget: %d percent", out.Percent)
	case out.Interval < time.Second || out.Interval > time.Hour:
		return nil, fmt.Errorf("retryConstraint.budget: an interval of %v: want 1s to 1h", out.Interval)
	case out.MinRetries < 0 || out.MinRetries > math.MaxInt32 || out.MinInterval <= 0 || out.MinInterval > time.Hour || out.MinInterval < time.Duration(out.MinRetries):
		return nil, fmt.Errorf("retryConstraint.minRetryRate: %d in %v", out.MinRetries, out.MinInterval)
	}
	return &out, nil
}
