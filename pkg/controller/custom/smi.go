package custom

import (
	"encoding/json"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// TrafficSplit is SMI's resource. The type fits all of its versions.
type TrafficSplit struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              TrafficSplitSpec `json:"spec"`
}

// TrafficSplitSpec has the Services that requests to a Service are sent to.
type TrafficSplitSpec struct {
	Service  string                `json:"service"`
	Backends []TrafficSplitBackend `json:"backends"`
	Matches  []TrafficSplitMatch   `json:"matches,omitempty"` // since v1alpha3
}

// TrafficSplitBackend is a Service of the same namespace.
type TrafficSplitBackend struct {
	Service string            `json:"service"`
	Weight  resource.Quantity `json:"weight"` // a share; a plain number since v1alpha2
}

// TrafficSplitMatch names an HTTPRouteGroup of the same namespace.
type TrafficSplitMatch struct {
	APIGroup string `json:"apiGroup,omitempty"`
	Kind     string `json:"kind"`
	Name     string `json:"name"`
}

// TrafficSplitList is a list of them.
type TrafficSplitList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficSplit `json:"items"`
}

// HTTPRouteGroup is SMI's resource. The type fits all of its versions.
type HTTPRouteGroup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              HTTPRouteGroupSpec `json:"spec,omitempty"`
	Matches           []HTTPMatch        `json:"matches,omitempty"` // before v1alpha3
}

// HTTPRouteGroupSpec matches a request if one of Matches does.
type HTTPRouteGroupSpec struct {
	Matches []HTTPMatch `json:"matches,omitempty"`
}

// HTTPMatch matches a request if all its parts do.
type HTTPMatch struct {
	Name      string      `json:"name,omitempty"`
	Methods   []string    `json:"methods,omitempty"` // "*" stands for all
	PathRegex string      `json:"pathRegex,omitempty"`
	Headers   HTTPHeaders `json:"headers,omitempty"`
}

// HTTPHeaders are regular expressions by header name. SMI's specification shows a
// map, its examples a list of maps.
type HTTPHeaders map[string]string

// UnmarshalJSON accepts both forms.
func (h *HTTPHeaders) UnmarshalJSON(text []byte) error {
	var list []map[string]string
	if json.Unmarshal(text, &list) != nil {
		return json.Unmarshal(text, (*map[string]string)(h))
	}
	*h = HTTPHeaders{}
	for _, m := range list {
		maps.Copy(*h, m)
	}
	return nil
}

// HTTPRouteGroupList is a list of them.
type HTTPRouteGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []HTTPRouteGroup `json:"items"`
}

// DeepCopyObject implements runtime.Object, as on the other types.
func (s *TrafficSplit) DeepCopyObject() runtime.Object { return s.deepCopy() }

func (s *TrafficSplit) deepCopy() *TrafficSplit {
	out := *s
	out.ObjectMeta = *s.ObjectMeta.DeepCopy()
	out.Spec.Backends = slices.Clone(s.Spec.Backends)
	for i := range out.Spec.Backends {
		out.Spec.Backends[i].Weight = s.Spec.Backends[i].Weight.DeepCopy()
	}
	out.Spec.Matches = slices.Clone(s.Spec.Matches)
	return &out
}

// DeepCopyObject implements runtime.Object. It also copies the items.
func (l *TrafficSplitList) DeepCopyObject() runtime.Object {
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	out.Items = slices.Clone(l.Items)
	for i := range out.Items {
		out.Items[i] = *l.Items[i].deepCopy()
	}
	return &out
}

// DeepCopyObject implements runtime.Object. It also copies the matches.
func (g *HTTPRouteGroup) DeepCopyObject() runtime.Object { return g.deepCopy() }

func (g *HTTPRouteGroup) deepCopy() *HTTPRouteGroup {
	out := *g
	out.ObjectMeta = *g.ObjectMeta.DeepCopy()
	out.Matches, out.Spec.Matches = copyMatches(g.Matches), copyMatches(g.Spec.Matches)
	return &out
}

func copyMatches(all []HTTPMatch) []HTTPMatch {
	out := slices.Clone(all)
	for i := range out {
		out[i].Methods, out[i].Headers = slices.Clone(all[i].Methods), maps.Clone(all[i].Headers)
	}
	return out
}

// DeepCopyObject implements runtime.Object. It also copies the items.
func (l *HTTPRouteGroupList) DeepCopyObject() runtime.Object {
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	out.Items = slices.Clone(l.Items)
	for i := range out.Items {
		out.Items[i] = *l.Items[i].deepCopy()
	}
	return &out
}
