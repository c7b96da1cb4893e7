package watch

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/underlane/underlane/pkg/controller/kind"
	"github.com/underlane/underlane/pkg/controller/translate"
)

// merge collects the objects of all files. If two objects have the same name, the
// first counts, in the order of file names. The other is reported as a problem.
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

// add adds o to its list in to. A ServiceAccount has no list: it is decoded only so
// that its errors are reported.
func add(to *translate.Objects, o object) {
	for _, k := range kind.All {
		if k.Add(to, o.Object) {
			return
		}
	}
}

func originKey(kind, namespace, name string) string { return kind + " " + namespace + "/" + name }
