package tapapi

import (
	"math/rand/v2"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// TestSelectorsAsKubernetes: agents read selectors as Kubernetes does, which is the oracle.
func TestSelectorsAsKubernetes(t *testing.T) {
	sets := []map[string]string{
		{},
		{"app": "web"},
		{"app": "web", "tier": "db"},
		{"app": "api", "track": ""},
		{"a.example/app": "web", "version": "3"},
		{"version": "12", "track": "canary"},
		{"version": "x", "app": ""},
	}
	check := func(text string) (valid bool) {
		t.Helper()
		want, wantErr := labels.Parse(text)
		got, err := filter.ParseSelector(text)
		if (err != nil) != (wantErr != nil) {
			t.Errorf("%q: %v, Kubernetes says %v", text, err, wantErr)
			return false
		}
		for _, set := range sets {
			if err == nil && got.Matches(mesh.LabelsOf(set)) != want.Matches(labels.Set(set)) {
				t.Errorf("%q of %v: %v, Kubernetes says %v", text, set, got.Matches(mesh.LabelsOf(set)), want.Matches(labels.Set(set)))
			}
		}
		return err == nil
	}
	for _, text := range []string{
		"", " ", "app=web", "app==web", "app = web , tier != db", "app in (web, api)", "app in ()", "app in (,)", "track in (,canary)", "track notin (canary)",
		"app", "!app", "! app", "!app=web", "app=", "app!=", "version>2", "version<5", "version > x", "version>", "a.example/app=web", "A.example/app", "/app", "a/b/c", "app=we b",
		"app=-x", "app=x-", "-app", "app,", ",app", "app,,tier", "app in web", "app in (web", "app in web)", "app=(web)", "in in (in)", "notin", "in", "app=in", "app in in (x)",
		strings.Repeat("a", 63), strings.Repeat("a", 64), "app=" + strings.Repeat("v", 64), "app=a=b", "app=!b", "app<>1", "app===web", "app=\u00e9", "app\t=\nweb",
	} {
		check(text)
	}
	r := rand.New(rand.NewPCG(1, 2))
	parts := []string{"app", "tier", "version", "track", "web", "db", "3", "12", "a.example/app", "=", "==", "!=", "!", "in", "notin", "(", ")", ",", ",", " ", " ", ">", "<", "-"}
	valid := 0
	for range 200_000 {
		var b strings.Builder
		for range 1 + r.IntN(9) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		if check(b.String()) {
			valid++
		}
		if t.Failed() {
			break
		}
	}
	if valid < 1000 {
		t.Errorf("only %d of the texts are valid", valid)
	}
}
