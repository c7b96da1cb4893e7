// Package manifest reads plain Kubernetes manifests for the lab, and writes
// the objects that the lab shows to the controller.
package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
)

// File is the text of one manifest file.
type File struct {
	Name string
	Text string
}

// Object is the object of one document, and its place.
type Object struct {
	Where string // file:line
	metav1.Object
}

// Key identifies an object: "kind/namespace/name", with the kind in lower case.
func (o Object) Key() string { return Key(o.Object) }

// Read reads the named files, and the *.yaml, *.yml and *.json files of the named
// directories in the order of their names.
func Read(paths ...string) ([]File, error) {
	var files []File
	for _, path := range paths {
		names := []string{path}
		if st, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		} else if st.IsDir() {
			entries, err := os.ReadDir(path)
			if err != nil {
				return nil, fmt.Errorf("read manifests: %w", err)
			}
			names = nil
			for _, e := range entries {
				if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
					names = append(names, filepath.Join(path, e.Name()))
				}
			}
			if len(names) == 0 {
				return nil, fmt.Errorf("directory %s holds no *.yaml, *.yml or *.json file", path)
			}
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("read manifest: %w", err)
			}
			files = append(files, File{name, string(text)})
		}
	}
	return files, nil
}

// kinds has the API groups of the kinds that check knows. client-go's scheme would
// have all groups of Kubernetes: fifty packages that the demo would compile for it.
var kinds = func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme, gatewayv1.Install, policies, egress,
	} {
		utilruntime.Must(add(s)) // fails only for types that contradict each other
	}
	return s
}()

var decoder = json.NewSerializerWithOptions(json.DefaultMetaFactory, kinds, kinds,
	json.SerializerOptions{Yaml: true, Strict: true})

// Parse decodes and checks files. Every error names file and line. Warnings are
// about kinds that the lab ignores.
func Parse(files []File) (objects []Object, warnings []string, err error) {
	var errs []error
	seen := map[string]string{}
	for _, f := range files {
		for _, doc := range split(f.Text) {
			where := fmt.Sprintf("%s:%d", f.Name, doc.line)
			obj, err := decode(doc.text)
			if runtime.IsNotRegisteredError(err) {
				warnings = append(warnings, fmt.Sprintf("%s: passed over: %v", where, err))
				continue
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", position(f.Name, doc.line, err), err))
				continue
			}
			o := Object{where, obj}
			Complete(obj)
			if known, err := check(obj); err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", where, o.Key(), err))
				continue
			} else if !known {
				warnings = append(warnings, fmt.Sprintf("%s: %s: passed over: the lab does nothing with this kind", where, o.Key()))
				continue
			}
			if before, twice := seen[o.Key()]; twice {
				errs = append(errs, fmt.Errorf("%s: %s is already at %s", where, o.Key(), before))
				continue
			}
			seen[o.Key()] = where
			objects = append(objects, o)
		}
	}
	return objects, warnings, errors.Join(errs...)
}

func decode(text string) (metav1.Object, error) {
	obj, _, err := decoder.Decode([]byte(text), nil, nil)
	if err != nil {
		return nil, err
	}
	m, ok := obj.(metav1.Object)
	if !ok {
		return nil, fmt.Errorf("%T is not an object with metadata", obj)
	}
	return m, nil
}

type document struct {
	line int // of its first line with content, counted from 1
	text string
}

// split splits a YAML stream at its separators. It leaves out documents that have
// only comments and white space.
func split(text string) []document {
	var docs []document
	var b strings.Builder
	start, n := 0, 0
	flush := func() {
		if start > 0 {
			docs = append(docs, document{start, b.String()})
		}
		b.Reset()
		start = 0
	}
	for line := range strings.Lines(text) {
		n++
		if rest, ok := strings.CutPrefix(line, "---"); ok && (strings.TrimSpace(rest) == "" || strings.HasPrefix(strings.TrimSpace(rest), "#")) {
			flush()
			continue
		}
		if t := strings.TrimSpace(line); start == 0 && t != "" && !strings.HasPrefix(t, "#") {
			start = n
			b.Reset() // only comments so far: lines count from here
		}
		b.WriteString(line)
	}
	flush()
	return docs
}

var yamlLine = regexp.MustCompile(`\bline (\d+)`)

// position returns file:line of an error. The YAML parser counts lines from the
// start of the document.
func position(file string, start int, err error) string {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		if n, e := strconv.Atoi(m[1]); e == nil {
			return fmt.Sprintf("%s:%d", file, start+n-1)
		}
	}
	return fmt.Sprintf("%s:%d", file, start)
}

// Encode writes an object as YAML.
func Encode(obj metav1.Object) ([]byte, error) {
	var b bytes.Buffer
	if err := encoder.Encode(obj.(runtime.Object), &b); err != nil {
		return nil, fmt.Errorf("encode %s: %w", Key(obj), err)
	}
	return b.Bytes(), nil
}

var encoder = json.NewSerializerWithOptions(json.DefaultMetaFactory, kinds, kinds,
	json.SerializerOptions{Yaml: true})

// Key identifies an object in the same way as Object.Key.
func Key(obj metav1.Object) string {
	return Kind(obj) + "/" + obj.GetNamespace() + "/" + obj.GetName()
}

// Kind returns the object's kind in lower case.
func Kind(obj metav1.Object) string {
	if p, is := obj.(*custom.PolicyObject); is {
		return strings.ToLower(p.QualifiedKind()) // several groups have an AuthorizationPolicy
	}
	name := fmt.Sprintf("%T", obj)
	return strings.ToLower(name[strings.LastIndexByte(name, '.')+1:])
}
