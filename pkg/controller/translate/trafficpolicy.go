package translate

import (
	"cmp"
	"fmt"
	"math"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayx "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/depend"
	"github.com/underlane/underlane/pkg/mesh"
)

// trafficPolicy is an XBackendTrafficPolicy.
type trafficPolicy struct {
	depend.Node
	tr     *Translator
	object *gatewayx.XBackendTrafficPolicy
}

// budgetUnit is the retry budget of a Service: that of the oldest of its policies that is
// valid (GEP-713).
type budgetUnit struct {
	depend.Node
	s      *service
	of     map[string]*trafficPolicy // by name
	value  *mesh.RetryBudget
	winner *gatewayx.XBackendTrafficPolicy
}

// targetsOf returns the places of the references of a policy to Services, by the Service.
func targetsOf(p *gatewayx.XBackendTrafficPolicy) map[name]int {
	out := map[name]int{}
	for i := range p.Spec.TargetRefs {
		ref := &p.Spec.TargetRefs[i]
		at := name{p.Namespace, string(ref.Name)}
		if _, twice := out[at]; !twice && isCore(ref.Group) && ref.Kind == "Service" {
			out[at] = i
		}
	}
	return out
}

// Compute finds the policy. It depends on the policies that have the Service as target, and on
// whether there is one.
func (u *budgetUnit) Compute() bool {
	old, winner := u.value, u.winner
	u.value, u.winner = nil, nil
	if shape := u.s.tr.shape(u.s.name); shape == nil || shape.external {
		return winner != nil
	}
	for _, p := range u.of {
		o := p.object
		budget, err := budgetFrom(o)
		if err != nil || u.winner != nil && cmp.Or(o.CreationTimestamp.Compare(u.winner.CreationTimestamp.Time), cmp.Compare(o.Name, u.winner.Name)) > 0 {
			continue
		}
		u.winner, u.value = o, budget
	}
	if old != nil && u.value != nil && *old == *u.value {
		u.value = old
	}
	return old != u.value || winner != u.winner
}

// Compute makes the status of a policy. It depends on its targets and their budgets.
func (u *trafficPolicy) Compute() bool {
	t := u.tr.translation()
	if u.object != nil {
		t.addTrafficPolicy(u.object)
	}
	u.tr.out.say(&u.Node, &t.Result)
	return false
}

func (t *translation) addTrafficPolicy(p *gatewayx.XBackendTrafficPolicy) {
	kind := custom.BackendTrafficPolicies.Kind
	_, err := budgetFrom(p)
	status := RouteStatus{Kind: kind, Namespace: p.Namespace, Name: p.Name}
	first := targetsOf(p)
	for i := range p.Spec.TargetRefs {
		ref := &p.Spec.TargetRefs[i]
		if !isCore(ref.Group) || ref.Kind != "Service" {
			continue // another controller handles it
		}
		at := name{p.Namespace, string(ref.Name)}
		svc, _ := t.service(at.namespace, at.name)
		winner := t.from.winner(at)
		is, v := true, verdict{gatewayv1.RouteConditionReason(gatewayv1.PolicyReasonAccepted), "in effect"}
		switch {
		case svc == nil:
			is, v = false, verdict{
				gatewayv1.RouteConditionReason(gatewayv1.PolicyReasonTargetNotFound),
				fmt.Sprintf("there is no Service %s/%s with endpoints of its own", p.Namespace, ref.Name),
			}
		case err != nil:
			is, v = false, verdict{gatewayv1.RouteConditionReason(gatewayv1.PolicyReasonInvalid), err.Error()}
		case winner != p || first[at] != i:
			is, v = false, verdict{
				gatewayv1.RouteConditionReason(gatewayv1.PolicyReasonConflicted),
				fmt.Sprintf("Service %s/%s has the older policy %s", p.Namespace, ref.Name, winner.GetName()),
			}
		case p.Spec.SessionPersistence != nil:
			v.text += "; ignored: sessionPersistence"
			t.problem(kind, p.Namespace, p.Name, "sessionPersistence: ignored")
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

// budgetFrom returns the budget of a policy that is understood.
func budgetFrom(p *gatewayx.XBackendTrafficPolicy) (*mesh.RetryBudget, error) {
	if unknown := custom.UnknownFields(p); unknown != nil {
		return nil, fmt.Errorf("the field %s is not known", unknown[0])
	}
	return budgetOf(p.Spec.RetryConstraint)
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
