package policyobject

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/policy/authz"
)

type spec struct {
	Action string `json:"action"`
	Rules  []struct {
		Name string `json:"name"`
		From []struct {
			Name string `json:"name"`
		} `json:"from"`
	} `json:"rules"`
}

// TestUnknown: what is not understood is reported, with the rule that it is in.
// TestAllHasAnOrder: the same object always says the same.
func TestAllHasAnOrder(t *testing.T) {
	object := []byte(`{"spec":{"rules":[{"a":1},{"b":1},{"c":1},{"d":1},{"e":1},{"f":1}],"z":1}}`)
	for range 20 {
		_, u := Read[struct {
			Rules []struct{} `json:"rules"`
		}](object)
		if got := u.All(); !slices.IsSorted(got) || len(got) != 7 {
			t.Fatal(got)
		}
	}
}

func TestUnknown(t *testing.T) {
	many := strings.Repeat(`{"x":1},`, 150)
	for object, want := range map[string]Unknown{
		`{"kind":"K","metadata":{"labels":{"a":"b"}},"spec":{"action":"A","rules":[{"name":"n"}]},"status":{"x":1}}`: {},
		`{"spec":{"Action":"A"}}`:                                    {Object: []string{"spec.Action"}},
		`{"specs":{}}`:                                               {Object: []string{"specs"}},
		`{"spec":{"action":"A","action":"B"}}`:                       {Object: []string{"spec.action"}},
		`{"spec":{"rules":[{"name":"n"},{"to":[]}]}}`:                {Rules: map[int][]string{1: {"spec.rules[1].to"}}},
		`{"spec":{"rules":[{"from":[{"name":"a","ns":"b"}]}]}}`:      {Rules: map[int][]string{0: {"spec.rules[0].from[0].ns"}}},
		`{"spec":{"rules":[{},null,{"from":[null]}],"action":null}}`: {Rules: map[int][]string{1: {"spec.rules[1]"}, 2: {"spec.rules[2].from[0]"}}},
		`{"spec":{"rules":{"a":"b"}}}`:                               {Object: []string{"spec.rules: cannot be of type object"}, Broken: true},
		`{"spec":{"action":1}}`:                                      {Object: []string{"spec.action: cannot be of type number"}, Broken: true},
		`{"spec":{"rules":[` + many + `{"y":1}]}}`:                   {Object: []string{"spec: has too many fields that are not known"}},
	} {
		_, got := Read[spec]([]byte(object))
		if len(got.Rules) >= maxUnknown {
			got.Rules = nil
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%.80s (-want +got):\n%s", object, diff)
		}
	}
}

// TestAccepted: messages are short and valid, however long and odd the values are.
func TestAccepted(t *testing.T) {
	if c := Accepted(3, nil); c.Status != "True" || c.Reason != "Accepted" || c.Message != "" || c.ObservedGeneration != 3 {
		t.Errorf("without problems: got %+v", c)
	}
	var problems []authz.Problem
	for range 1000 {
		problems = append(problems, authz.Problem{Policy: "p", Rule: 2, Field: "paths", Text: strings.Repeat("ü\xff", 1<<10)})
	}
	c := Accepted(3, problems)
	if c.Status != "False" || c.Reason != "Invalid" || len(c.Message) > 8192 || !utf8.ValidString(c.Message) ||
		!strings.HasPrefix(c.Message, "rule 2: paths: ü") || !strings.HasSuffix(c.Message, "and 990 more") {
		t.Errorf("got %s %s, %d bytes: %q", c.Status, c.Reason, len(c.Message), c.Message)
	}
}

func TestReadMeta(t *testing.T) {
	m, err := ReadMeta([]byte(`{"apiVersion":"g.io/v1","kind":"K","metadata":{"namespace":"n","name":"o","generation":7,"creationTimestamp":"2026-01-02T03:04:05Z"}}`))
	if err != nil || m.String() != "K.g.io n/o" || m.Generation != 7 || m.Created.Unix() != 1767323045 {
		t.Errorf("got %+v, %v", m, err)
	}
	for _, bad := range []string{"", "[]", `{"kind":1}`, strings.Repeat(`{"a":`, 20000)} {
		if m, err := ReadMeta([]byte(bad)); err == nil {
			t.Errorf("%.20q: got %+v, want an error", bad, m)
		}
	}
	if m, _ := ReadMeta([]byte(`{"apiVersion":"v1","kind":"Service"}`)); m.Group != "" {
		t.Errorf("core group: got %q", m.Group)
	}
}
