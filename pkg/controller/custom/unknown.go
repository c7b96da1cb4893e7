package custom

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// annotationUnknown has the names of the fields of an object that its Go type does not have,
// one a line. Whoever decodes the object sets it, or removes it: it says nothing in the API.
const annotationUnknown = "internal.underlane.io/unknown-fields"

// Bounds of what is kept of these names: they are the author's.
const (
	maxUnknown      = 10
	maxUnknownBytes = 256 // of one
)

// SetUnknownFields notes which fields of o were not known when it was decoded. It is for types
// of libraries, which have no place for them.
func SetUnknownFields(o metav1.Object, fields []string) {
	annotations := o.GetAnnotations()
	if len(fields) == 0 {
		if _, has := annotations[annotationUnknown]; has {
			delete(annotations, annotationUnknown)
			o.SetAnnotations(annotations)
		}
		return
	}
	if len(fields) > maxUnknown {
		// What is left out may be in any rule: one of no rule stands for it.
		fields = append(slices.Clone(fields[:maxUnknown]), "spec")
	}
	lines := make([]string, len(fields))
	for i, f := range fields {
		lines[i] = strings.ToValidUTF8(strings.ReplaceAll(f[:min(len(f), maxUnknownBytes)], "\n", " "), "")
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotationUnknown] = strings.Join(lines, "\n")
	o.SetAnnotations(annotations)
}

// UnknownFields returns the fields of o that were not known when it was decoded, such as
// spec.rules[0].matches[1].cookies.
func UnknownFields(o metav1.Object) []string {
	text := o.GetAnnotations()[annotationUnknown]
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
