package tapapi

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/internal/version"
)

// discovery returns the API's discovery documents by path. They are sufficient for
// the API server to list the API and for kubectl to work without errors. There are
// no schemas, because no object can be created or changed here.
func discovery() map[string]any {
	gv := metav1.GroupVersionForDiscovery{GroupVersion: tapv1alpha1.GroupVersion, Version: tapv1alpha1.Version}
	group := metav1.APIGroup{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"},
		Name:     tapv1alpha1.Group, Versions: []metav1.GroupVersionForDiscovery{gv}, PreferredVersion: gv,
	}
	info := map[string]string{"title": "Underlane", "version": version.Version}
	schemas := "/openapi/v3" + tapv1alpha1.Prefix
	return map[string]any{
		"/apis": metav1.APIGroupList{
			TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{group},
		},
		"/apis/" + tapv1alpha1.Group: group,
		tapv1alpha1.Prefix: metav1.APIResourceList{
			TypeMeta:     metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
			GroupVersion: tapv1alpha1.GroupVersion, APIResources: resources(),
		},
		"/openapi/v2": map[string]any{"swagger": "2.0", "info": info, "paths": map[string]any{}},
		"/openapi/v3": map[string]any{"paths": map[string]any{
			tapv1alpha1.Prefix[1:]: map[string]string{"serverRelativeURL": schemas},
		}},
		schemas: map[string]any{"openapi": "3.0.0", "info": info, "paths": map[string]any{}},
	}
}

// resources are the resources that RBAC rules can name. The part before a slash is
// listed too, because `kubectl create role` looks it up. Tools that list everything
// can list only nodes: no other resource has the verb list.
func resources() []metav1.APIResource {
	of := func(name, kind string, namespaced bool, verb string) metav1.APIResource {
		return metav1.APIResource{Name: name, Kind: kind, Namespaced: namespaced, Verbs: metav1.Verbs{verb}}
	}
	list := []metav1.APIResource{of("tap", "Tap", true, "watch")}
	for _, kind := range tapv1alpha1.Kinds {
		list = append(list, of(kind, "Tap", true, "watch"), of(kind+"/tap", "Tap", true, "watch"),
			of(kind+"/why", "WhyReport", true, "get"), of(kind+"/try", "WhyReport", true, "create"),
			of(kind+"/authz", "AuthzExplanation", true, "get"))
	}
	return append(list,
		of("figures", "Figures", true, "get"),
		of("routes", "RouteList", true, "get"),
		of("resources", "ResourceList", true, "get"),
		of("connections", "ConnectionList", true, "get"),
		of("authz", "AuthzList", true, "get"),
		of("nodes", "Agent", false, "list"),
		of("nodes/status", "Agent", false, "get"),
		of("nodes/dump", "Agent", false, "get"),
		of("nodes/metrics", "Agent", false, "get"),
		of("costs", "AgentCostsList", false, "get"),
		of("endpoints", "EndpointList", false, "get"),
		of("state", "State", false, "get"),
		of("metrics", "Metrics", false, "get"),
	)
}
