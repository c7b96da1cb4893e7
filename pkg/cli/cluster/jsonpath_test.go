package cluster

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestJSONPath: the spellings that Linkerd takes mean the same (viz/pkg/jsonpath).
func TestJSONPath(t *testing.T) {
	var event any
	if err := json.Unmarshal([]byte(`{"source":{"metadata":{"pod":"web-1"}},"requestInitEvent":{"headers":[{"name":"a"},{"name":"b"}]}}`), &event); err != nil {
		t.Fatal(err)
	}
	for expression, want := range map[string][]any{
		"source.metadata.pod":               {"web-1"},
		".source.metadata.pod":              {"web-1"},
		"{source.metadata.pod}":             {"web-1"},
		"{.source.metadata.pod}":            {"web-1"},
		".requestInitEvent.headers[*].name": {"a", "b"},
		".responseEndEvent.success":         nil, // another event has it
	} {
		find, err := jsonPath(expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		got, err := find(event)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", expression, err, diff)
		}
	}
	for _, expression := range []string{"", "{}", "{.a", ".a}", "{.a}{.b}", "{.a[}"} {
		if _, err := jsonPath(expression); err == nil {
			t.Errorf("%s: no error, want one", expression)
		}
	}
}
