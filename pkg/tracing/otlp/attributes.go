package otlp

import (
	"strings"
	"unicode/utf8"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"

	"github.com/underlane/underlane/pkg/mesh"
)

// schema is the version of the semantic conventions that the attributes follow.
const schema = "https://opentelemetry.io/schemas/1.43.0"

const scopeName = "github.com/underlane/underlane"

// maxValue is the largest string attribute, in bytes. Longer ones are cut.
const maxValue = 4 << 10

// attributes are made by appending to them.
type attributes []*commonpb.KeyValue

// str adds a string, unless it is "". What is not UTF-8 is replaced: protobuf refuses it.
func (a *attributes) str(key, value string) {
	if value != "" {
		*a = append(*a, &commonpb.KeyValue{Key: key, Value: text(value)})
	}
}

func (a *attributes) num(key string, value int64) {
	*a = append(*a, &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: value}}})
}

func (a *attributes) float(key string, value float64) {
	*a = append(*a, &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: value}}})
}

func text(s string) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: clean(s)}}
}

// clean cuts s to maxValue and makes it valid UTF-8.
func clean(s string) string {
	if len(s) > maxValue {
		s = s[:maxValue]
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}

// resourceOf describes a pod, as the conventions for Kubernetes say. w may be nil.
func resourceOf(w *mesh.Workload) *resourcepb.Resource {
	var a attributes
	if w == nil {
		a.str("service.name", "unknown")
		return &resourcepb.Resource{Attributes: a}
	}
	name := w.OwnerName
	if name == "" || w.OwnerKind == "pod" {
		name = w.Name
	}
	a.str("service.name", name)
	a.str("service.namespace", w.Namespace)
	a.str("service.instance.id", w.UID)
	a.str("k8s.namespace.name", w.Namespace)
	a.str("k8s.pod.name", w.Name)
	a.str("k8s.pod.uid", w.UID)
	a.str("k8s.node.name", w.Node)
	switch w.OwnerKind {
	case "deployment", "statefulset", "daemonset", "job", "cronjob", "replicaset":
		a.str("k8s."+w.OwnerKind+".name", w.OwnerName)
	}
	return &resourcepb.Resource{Attributes: a}
}

func scope(version string) *commonpb.InstrumentationScope {
	return &commonpb.InstrumentationScope{Name: scopeName, Version: version}
}
