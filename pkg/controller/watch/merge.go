package watch

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayx "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/translate"
)

// merge puts the objects of all files together. Of an object that is there
// twice the first counts, in the order of file names, and the other is a
// problem.
func merge(files map[string]*file) (*translate.Objects, map[string]string, []Problem) {
	objects, origins := &translate.Objects{}, map[string]string{}
	var problems []Problem
	for _, path := range slices.Sorted(maps.Keys(files)) {
		f := files[path]
		if f.problem != nil {
			problems = append(problems, *f.problem)
		}
		for _, o := range f.objects {
			key := originKey(o.kind, o.GetNamespace(), o.GetName())
			if first, taken := origins[key]; taken {
				problems = append(problems, Problem{
					File: path, Line: o.line,
					Reason: fmt.Sprintf("%s is in %s already: that one counts", o, first),
				})
				continue
			}
			origins[key] = fmt.Sprintf("%s:%d", path, o.line)
			add(objects, o)
		}
	}
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Reason, b.Reason))
	})
	return objects, origins, problems
}

func add(to *translate.Objects, o object) {
	switch v := o.Object.(type) {
	case *corev1.Namespace:
		to.Namespaces = append(to.Namespaces, v)
	case *corev1.Node:
		to.Nodes = append(to.Nodes, v)
	case *corev1.Pod:
		to.Pods = append(to.Pods, v)
	case *corev1.Service:
		to.Services = append(to.Services, v)
	case *discoveryv1.EndpointSlice:
		to.EndpointSlices = append(to.EndpointSlices, v)
	case *networkingv1.NetworkPolicy:
		to.NetworkPolicies = append(to.NetworkPolicies, v)
	case *gatewayv1.HTTPRoute:
		to.HTTPRoutes = append(to.HTTPRoutes, v)
	case *gatewayv1.GRPCRoute:
		to.GRPCRoutes = append(to.GRPCRoutes, v)
	case *gatewayx.XBackendTrafficPolicy:
		to.TrafficPolicies = append(to.TrafficPolicies, v)
	case *custom.TrafficSplit:
		to.TrafficSplits = append(to.TrafficSplits, v)
	case *custom.HTTPRouteGroup:
		to.HTTPRouteGroups = append(to.HTTPRouteGroups, v)
	case *custom.HTTPFault:
		to.HTTPFaults = append(to.HTTPFaults, v)
	}
}

func originKey(kind, namespace, name string) string { return kind + " " + namespace + "/" + name }
