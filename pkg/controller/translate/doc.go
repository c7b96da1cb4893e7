// Package translate converts Kubernetes objects to the mesh's own values. It is pure: the same
// objects always give the same result, in the same order, whatever the sequence of changes that
// led to them.
//
// A Translator keeps a result current. It has a unit for each value that is computed, and a
// unit that looks at another value becomes its user (package depend): the edges are those that
// the code follows, and none is declared. After a change only the users of what has changed are
// computed, and only as long as values change. Whoever adds something that a translation looks
// at gets it from the Translator by a function that reads a unit, or marks the unit in noting.
//
// What depends on what, in the order of the levels:
//
//   - Namespace: its labels and annotations, its NetworkPolicies, policies of CNIs in it or
//     without a namespace, and whether there may be others.
//   - EgressNetwork: itself.
//   - Pod, first (baseUnit): itself, its Namespace, the zone of its Node.
//   - Address: the pods that say it is theirs.
//   - Policies of a namespace: its own, those of Istio's root namespace, the Services of the
//     namespace (Istio's targets) and those of external authorizers, Linkerd's authentications
//     of all namespaces, and routes of the namespace that have a Server as parent. A change
//     judges the pods anew that what has changed selects or has selected (policychange.go).
//   - Limits that nodes share: the policies of the namespace, and all of its pods.
//   - Workload (finalUnit): the pod, who has its addresses, the policies and limits.
//   - Service, first (shapeUnit): itself. Routes look at this only, so they do not depend on
//     endpoints.
//   - External address: the Services that claim it, the Service with this cluster IP, and the
//     pod with this address.
//   - Retry budget: the XBackendTrafficPolicies with the Service as target. Their status: the
//     budgets of their targets.
//   - Service with endpoints: its first step, its EndpointSlices, the workloads that these name
//     or that have the addresses; without slices the pods with a label of its selector; its
//     external addresses and its retry budget.
//   - Route: itself, and the Services, EgressNetworks and HTTPFaults that it names.
//   - TrafficSplits of a Service: themselves, the Services and HTTPRouteGroups that they name,
//     and which ports have routes.
//   - Routes of a Service's annotations: its first step, which ports have routes or splits.
//
// A change costs more than what it touches in these cases: a policy (those of its namespace are
// read, or of all namespaces if it is in Istio's root namespace, and the labels of the pods
// there), an authentication of Linkerd (the policies of all namespaces that have policies of
// Linkerd), and a pod of a namespace that has limits which nodes share (all pods of the namespace
// are counted).
package translate
