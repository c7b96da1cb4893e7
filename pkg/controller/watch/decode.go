package watch

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/kind"
	"github.com/underlane/underlane/pkg/controller/translate"
)

// object is one object of a manifest.
type object struct {
	metav1.Object
	kind string // of a policy with its group, as in translate.Problem
	line int    // the line where its document begins, from 1
}

func (o object) String() string {
	if o.GetNamespace() == "" {
		return o.kind + " " + o.GetName()
	}
	return o.kind + " " + o.GetNamespace() + "/" + o.GetName()
}

// lineError is an error in a line of a file; lines count from 1.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// readable are the kinds that are decoded, by "APIVERSION/KIND". Other kinds are
// skipped.
var readable = func() map[string]bool {
	out := map[string]bool{"v1/ServiceAccount": true}
	for _, k := range kind.All {
		for _, gv := range k.Of().GroupVersions() {
			out[gv.String()+"/"+k.Of().Kind] = true
		}
	}
	return out
}()

// clusterScoped are the kinds without a namespace.
var clusterScoped = func() map[string]bool {
	out := map[string]bool{}
	for _, k := range kind.All {
		if k.Of().ClusterScoped {
			out[k.Of().Kind] = true
		}
	}
	return out
}()

// strict is the decoder. It is as strict as the API server for kubectl apply.
var strict = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme, custom.Install} {
		utilruntime.Must(add(scheme)) // fails only for types that contradict each other
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}()

// Decode returns the objects of a manifest: YAML or JSON, several documents, Lists.
// It is as strict as kubectl apply: a field that Kubernetes does not know is an
// error. Errors include the line.
func Decode(manifest []byte) (*translate.Objects, error) {
	objects, err := decode(manifest)
	if err != nil {
		return nil, err
	}
	out := &translate.Objects{}
	for _, o := range objects {
		add(out, o)
	}
	return out, nil
}

// Names returns "APIVERSION KIND" of each object of a manifest, also of kinds that Decode skips.
func Names(manifest []byte) (out []string, err error) {
	for _, d := range split(manifest) {
		var head struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Items      []struct {
				APIVersion string `json:"apiVersion"`
				Kind       string `json:"kind"`
			} `json:"items"`
		}
		if err := yaml.Unmarshal(d.text, &head); err != nil {
			return nil, d.locate(err)
		}
		if head.Kind != "List" {
			out = append(out, head.APIVersion+" "+head.Kind)
			continue
		}
		for _, item := range head.Items {
			out = append(out, item.APIVersion+" "+item.Kind)
		}
	}
	return out, nil
}

// decode returns the objects of all documents that can be decoded, and what is wrong with the
// first that cannot.
func decode(manifest []byte) (out []object, first error) {
	for _, d := range split(manifest) {
		objects, err := d.decode()
		if err != nil && first == nil {
			first = d.locate(err)
		}
		out = append(out, objects...)
	}
	return out, first
}

// document is one YAML document, and the line of the file in which it begins.
type document struct {
	text []byte
	line int
}

// split cuts a manifest at the "---" lines (YAML 1.2 §9.1.4).
func split(manifest []byte) []document {
	var docs []document
	start, line, first := 0, 1, 1
	add := func(end int) {
		text := manifest[start:end]
		if skip := leading(text); skip < len(text) {
			docs = append(docs, document{text: text, line: first})
		}
	}
	for pos := 0; pos < len(manifest); {
		end := len(manifest)
		if i := bytes.IndexByte(manifest[pos:], '\n'); i >= 0 {
			end = pos + i + 1
		}
		text := bytes.TrimRight(manifest[pos:end], " \t\r\n")
		if bytes.Equal(text, []byte("---")) || bytes.HasPrefix(text, []byte("--- ")) {
			add(pos)
			start, first = end, line+1
		}
		pos = end
		line++
	}
	add(len(manifest))
	return docs
}

// leading returns the length of the blank and comment lines at the start of text.
func leading(text []byte) int {
	n := 0
	for line := range bytes.Lines(text) {
		if t := bytes.TrimSpace(line); len(t) > 0 && t[0] != '#' {
			return n
		}
		n += len(line)
	}
	return n
}

func (d document) decode() ([]object, error) {
	asJSON, err := yaml.YAMLToJSONStrict(d.text)
	if err != nil {
		return nil, err
	}
	first := d.line + bytes.Count(d.text[:leading(d.text)], []byte("\n"))
	return decodeJSON(asJSON, first)
}

func decodeJSON(asJSON []byte, line int) ([]object, error) {
	var head struct {
		APIVersion string           `json:"apiVersion"`
		Kind       string           `json:"kind"`
		Items      []map[string]any `json:"items"`
	}
	if err := yaml.Unmarshal(asJSON, &head); err != nil {
		return nil, fmt.Errorf("not a Kubernetes object: %w", err)
	}
	switch {
	case head.Kind == "" || head.APIVersion == "":
		return nil, errors.New("not a Kubernetes object: apiVersion or kind is missing")
	case head.Kind == "List" && head.APIVersion == "v1":
		return decodeItems(head.Items, line)
	}
	if isForeign(head.APIVersion, head.Kind) {
		return decodeMetadata(asJSON, line)
	}
	if !readable[head.APIVersion+"/"+head.Kind] {
		return nil, unread(head.APIVersion, head.Kind)
	}
	decoded, _, err := strict.Decode(asJSON, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", head.Kind, err)
	}
	o, ok := decoded.(metav1.Object)
	if !ok {
		return nil, fmt.Errorf("%s: has no metadata", head.Kind)
	}
	if err := check(o, head.Kind); err != nil {
		return nil, fmt.Errorf("%s: %w", head.Kind, err)
	}
	name := head.Kind
	switch p := o.(type) {
	case *custom.PolicyObject:
		name = p.QualifiedKind()
	case *corev1.Pod:
		o = kind.PodOf(p)
	}
	return []object{{Object: o, kind: name, line: line}}, nil
}

// unread returns an error for an object that is not read although it is of a kind that is read in
// other versions, or of a group of policies.
func unread(apiVersion, kind string) error {
	group, _, _ := strings.Cut(apiVersion, "/")
	for _, r := range custom.Resources {
		if r.Group == group && r.Kind == kind {
			return fmt.Errorf("%s: the version %s is not known, and has no effect: want %s", kind, apiVersion, r.GroupVersions()[0])
		}
	}
	if slices.Contains(custom.PolicyGroups, group) {
		return fmt.Errorf("%s: the kind is not known in %s, and has no effect", kind, apiVersion)
	}
	return nil
}

func decodeItems(items []map[string]any, line int) ([]object, error) {
	var out []object
	for i, item := range items {
		if item["kind"] == "List" {
			return nil, fmt.Errorf("item %d: a List in a List", i)
		}
		asJSON, err := yaml.Marshal(item)
		if err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
		objects, err := decodeJSON(asJSON, line)
		if err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
		out = append(out, objects...)
	}
	return out, nil
}

// check validates the names of an object and sets its namespace.
func check(o metav1.Object, kind string) error {
	if o.GetName() == "" {
		return errors.New("metadata.name is missing")
	}
	names := map[string]string{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}
	if p, ok := o.(*corev1.Pod); ok { // the namespace and the service account become part of certificates
		names["spec.serviceAccountName"], names["spec.nodeName"] = p.Spec.ServiceAccountName, p.Spec.NodeName
	}
	for field, name := range names {
		if name != "" && len(validation.IsDNS1123Subdomain(name)) > 0 {
			return fmt.Errorf("%s: %q is not a name (RFC 1123: lower case, digits, '-' and '.')", field, name)
		}
	}
	switch {
	case clusterScoped[kind]:
		o.SetNamespace("")
	case o.GetNamespace() == "":
		o.SetNamespace(metav1.NamespaceDefault)
	}
	return nil
}

var (
	yamlLine  = regexp.MustCompile(`\bline (\d+): `)
	fieldPath = regexp.MustCompile(`(?:unknown field|duplicate field|struct field) "?([A-Za-z0-9_./\[\]-]+)"?`)
)

// locate finds the line of an error in d. Errors of the YAML reader include the
// line. Errors of the conversion to Kubernetes' types include a field, and locate
// looks up the field's line. For other errors it is the line where the document
// begins.
func (d document) locate(err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		if n, convErr := strconv.Atoi(m[1]); convErr == nil {
			text = strings.Replace(text, m[0], "", 1)
			// The YAML reader also counts a carriage return alone as a line end, so
			// its number may exceed the lines of the file.
			n = min(n, bytes.Count(d.text, []byte("\n"))+1)
			return &lineError{line: d.line + n - 1, err: errors.New(text)}
		}
	}
	line := d.line + bytes.Count(d.text[:leading(d.text)], []byte("\n"))
	if m := fieldPath.FindStringSubmatch(text); m != nil {
		if n, ok := d.find(m[1]); ok {
			line = n
		}
	}
	return &lineError{line: line, err: errors.New(text)}
}

// find returns the line of the field at path (a.b[0].c). It searches each name
// below the name before it.
func (d document) find(path string) (int, bool) {
	names := strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '/' })
	lines := strings.Split(string(d.text), "\n")
	at, found := 0, false
	for _, name := range names {
		name, _, _ = strings.Cut(name, "[")
		key := regexp.MustCompile(`^[\s{,-]*"?` + regexp.QuoteMeta(name) + `"?\s*:|[{,]\s*"?` + regexp.QuoteMeta(name) + `"?\s*:`)
		found = false
		for i := at; i < len(lines); i++ {
			if key.MatchString(lines[i]) {
				at, found = i, true
				break
			}
		}
	}
	return d.line + at, found
}
