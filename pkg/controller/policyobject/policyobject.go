// Package policyobject reads objects of authorization policies and words their status,
// for the packages that translate such objects. It is pure.
//
// A decoder of Go's standard library leaves out a field that it does not know, and
// takes Rules for rules. A policy that is read like that may allow more than its author
// means. Read reports everything that is not understood, with its place.
package policyobject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	kjson "sigs.k8s.io/json"
)

// Meta is what is read of an object beside its specification.
type Meta struct {
	Group, Kind     string
	Namespace, Name string
	Generation      int64
	Created         time.Time // zero: not known
	Labels          map[string]string
	Annotations     map[string]string
}

// String names the object: KIND.GROUP NAMESPACE/NAME.
func (m *Meta) String() string {
	return m.Kind + "." + m.Group + " " + m.Namespace + "/" + m.Name
}

// ReadMeta reads what all Kubernetes objects have. It returns an error for what is not the
// JSON of an object.
func ReadMeta(object []byte) (Meta, error) {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Namespace         string            `json:"namespace"`
			Name              string            `json:"name"`
			Generation        int64             `json:"generation"`
			CreationTimestamp *time.Time        `json:"creationTimestamp"`
			Labels            map[string]string `json:"labels"`
			Annotations       map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(object, &head); err != nil {
		return Meta{}, fmt.Errorf("object is not JSON of a Kubernetes resource: %w", err)
	}
	group, _, ok := strings.Cut(head.APIVersion, "/")
	if !ok {
		group = ""
	}
	m := Meta{
		Group: group, Kind: head.Kind, Namespace: head.Metadata.Namespace, Name: head.Metadata.Name,
		Generation: head.Metadata.Generation, Labels: head.Metadata.Labels, Annotations: head.Metadata.Annotations,
	}
	if head.Metadata.CreationTimestamp != nil {
		m.Created = *head.Metadata.CreationTimestamp
	}
	return m, nil
}

// Unknown is what of a specification is not understood: fields that are not known or
// are given twice, and values of another type.
type Unknown struct {
	Object []string         // of the object as a whole
	Rules  map[int][]string // of the element of spec.rules with this index
	// Broken: a value cannot be of its type. Only the first is listed, and what was not read
	// looks as if it were not there.
	Broken bool
}

// Empty reports whether everything is understood.
func (u *Unknown) Empty() bool { return len(u.Object) == 0 && len(u.Rules) == 0 }

// All returns all of them, sorted: statuses have them, and must not change by themselves.
func (u *Unknown) All() []string {
	out := append([]string(nil), u.Object...)
	for _, fields := range u.Rules {
		out = append(out, fields...)
	}
	slices.Sort(out)
	return out
}

// maxUnknown is the number of fields that the decoder reports at most. With so many there
// may be others.
const maxUnknown = 100

// Read decodes the specification of an object, as far as it can be read. Names of
// fields are compared in their case, as API servers do.
func Read[T any](object []byte) (spec T, u Unknown) {
	var all struct {
		APIVersion json.RawMessage `json:"apiVersion"`
		Kind       json.RawMessage `json:"kind"`
		Metadata   json.RawMessage `json:"metadata"`
		Status     json.RawMessage `json:"status"`
		Spec       T               `json:"spec"`
	}
	strict, err := kjson.UnmarshalStrict(object, &all)
	if err != nil {
		u.Object, u.Broken = append(u.Object, clean(err)), true
	}
	if len(strict) >= maxUnknown {
		u.Object = append(u.Object, "spec: has too many fields that are not known")
	}
	if bytes.Contains(object, []byte("null")) {
		var tree struct {
			Spec any `json:"spec"`
		}
		_ = json.Unmarshal(object, &tree) // err is reported above
		nulls("spec", tree.Spec, u.add)
	}
	for _, e := range strict {
		var field kjson.FieldError
		if errors.As(e, &field) {
			u.add(field.FieldPath())
		} else {
			u.Object = append(u.Object, clean(e))
		}
	}
	return all.Spec, u
}

func (u *Unknown) add(path string) {
	i, ok := ruleOf(path)
	switch {
	case !ok:
		u.Object = append(u.Object, path)
	case u.Rules == nil:
		u.Rules = map[int][]string{i: {path}}
	case len(u.Rules[i]) < maxUnknown:
		u.Rules[i] = append(u.Rules[i], path)
	}
}

// nulls reports the elements of lists that are null. They decode to elements without any
// field, which may match everything.
func nulls(path string, v any, report func(path string)) {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			nulls(path+"."+name, value, report)
		}
	case []any:
		for i, value := range v {
			at := path + "[" + strconv.Itoa(i) + "]"
			if value == nil {
				report(at)
			}
			nulls(at, value, report)
		}
	}
}

func clean(err error) string {
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		field := mismatch.Field
		if _, after, ok := strings.Cut(field, "spec."); ok {
			field = "spec." + strings.TrimPrefix(after, "spec.")
		}
		return field + ": cannot be of type " + mismatch.Value
	}
	return "spec: " + strings.TrimPrefix(err.Error(), "json: ")
}

// ruleOf returns the index of the rule in which a field is.
func ruleOf(path string) (int, bool) {
	rest, ok := strings.CutPrefix(path, "spec.rules[")
	index, _, closed := strings.Cut(rest, "]")
	i, err := strconv.Atoi(index)
	return i, ok && closed && err == nil
}
