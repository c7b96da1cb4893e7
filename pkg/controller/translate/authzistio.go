package translate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/bylabels"
	"github.com/underlane/underlane/pkg/controller/istiopolicy"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// istioFront has the policies of security.istio.io.
type istioFront struct {
	objects  *istiopolicy.Objects
	services map[string]*bylabels.Index[string] // names, by the namespace; where policies have a Service as target

	providers providers
}

func newIstioFront(t *translation, o *Objects) front {
	in := istiopolicy.Mesh{RootNamespace: t.config.IstioRootNamespace, TrustDomain: t.config.TrustDomain}
	f := &istioFront{objects: istiopolicy.New(in), services: map[string]*bylabels.Index[string]{}, providers: t.providers(o.Services)}
	for _, object := range o.PolicyObjects {
		if object.GroupVersionKind().Group != istiopolicy.Group {
			continue
		}
		read := parsed(t, object, func() *istiopolicy.Object { return in.Read(metaOf(object), specOf(object)) })
		if read == nil {
			continue
		}
		problems := slices.Concat(read.Problems, f.providers.problems(read))
		for _, problem := range problems {
			t.authzProblem(problem)
		}
		t.addStatus(object, gatewayv1.PolicyAncestorStatus{ControllerName: ControllerName, Conditions: []metav1.Condition{read.ConditionWith(problems)}})
		f.objects.Insert(read)
	}
	for _, s := range o.Services {
		f.addService(s)
	}
	return f
}

// hasPods reports whether a Service selects pods.
func hasPods(s *corev1.Service) bool {
	return len(s.Spec.Selector) > 0 && s.Spec.Type != corev1.ServiceTypeExternalName
}

// addService notes which pods a Service has.
func (f *istioFront) addService(s *corev1.Service) {
	if !hasPods(s) || !f.objects.Targets(s.Namespace) {
		return
	}
	in := f.services[s.Namespace]
	if in == nil {
		in = &bylabels.Index[string]{}
		f.services[s.Namespace] = in
	}
	in.Add(labels.SelectorFromSet(s.Spec.Selector), s.Name)
}

// rule returns one group with the policies that are about the pod. Where one of them allows,
// what none allows is denied, on all ports.
func (f *istioFront) rule(p *pod) (out ruling) {
	group := authz.Group{Name: istiopolicy.Group, Default: authz.ModeAllUnauthenticated, Unmatched: authz.ModeDeny}
	w := f.workload(p)
	group.Policies, out.requests = f.objects.Policies(w)
	if tokens := f.objects.Tokens(w); len(tokens) > 0 {
		out.requests = true
		out.amend = func(s *authz.Spec) { s.Tokens = append(s.Tokens, tokens...) }
	}
	if len(group.Policies) == 0 {
		return out
	}
	if authorizers := f.providers.resolve(group.Policies); len(authorizers) > 0 {
		amend := out.amend
		out.amend = func(s *authz.Spec) {
			if amend != nil {
				amend(s)
			}
			s.Authorizers = append(s.Authorizers, authorizers...)
		}
	}
	out.groups = []authz.Group{group}
	out.decided = decidedBy(group.Policies)
	return out
}

func (f *istioFront) workload(p *pod) *istiopolicy.Workload {
	return &istiopolicy.Workload{
		Namespace: p.Namespace, Labels: p.Labels, Services: f.services[p.Namespace].Select(p.Labels), Addresses: p.workload.Addrs,
	}
}
