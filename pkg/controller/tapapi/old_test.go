package tapapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// TestOldAgent: an agent of a version that does not know a call is named with what it lacks,
// and the answers of the others come. What the others know of its calls counts.
func TestOldAgent(t *testing.T) {
	w, a, _ := twoNamespaces(t)
	a.Stop()
	a.Old = true
	a.Restart()
	f, code, text := w.figures("root", "", "")
	if diff := cmp.Diff([]string{"cron > db 5 of 5", "web > db 30 of 40 partial"}, lines(&f)); diff != "" || code != http.StatusOK {
		t.Errorf("%d %s (-want +got):\n%s", code, text, diff)
	}
	for path, lacks := range map[string]string{
		tapv1alpha1.FiguresPath(""):     "remembers no figures",
		tapv1alpha1.RoutesPath(""):      "remembers no figures",
		tapv1alpha1.ResourcesPath(""):   "does not say what pods use",
		tapv1alpha1.ConnectionsPath(""): "does not list connections",
	} {
		code, text := w.body("root", path)
		var got struct {
			Nodes    tapv1alpha1.Nodes
			Warnings []string
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil || code != http.StatusOK {
			t.Errorf("%s: %d, error %v, %s; want 200 and JSON", path, code, err, text)
			continue
		}
		want := "a: its agent is of an older version and " + lacks
		if got.Nodes != (tapv1alpha1.Nodes{Asked: 2, Answered: 1}) || !slices.ContainsFunc(got.Warnings, func(w string) bool { return strings.HasPrefix(w, want) }) {
			t.Errorf("%s: %+v, warnings %q; want 1 of 2, and %q", path, got.Nodes, got.Warnings, want)
		}
	}
}
