package docstest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
)

// block is YAML in a page.
type block struct {
	line int // from 1
	text string
}

// yamlBlocks returns the fenced blocks of YAML, and what begins with an apiVersion in indented
// ones: until the next command, where output is shown.
func yamlBlocks(page string) (out []block) {
	lines := strings.Split(page, "\n")
	for i := 0; i < len(lines); i++ {
		switch line := lines[i]; {
		case strings.TrimSpace(line) == "```yaml":
			from := i + 1
			for i++; i < len(lines) && strings.TrimSpace(lines[i]) != "```"; i++ {
			}
			out = append(out, block{from + 1, strings.Join(lines[from:i], "\n")})
		case strings.HasPrefix(strings.TrimLeft(line, " "), "apiVersion: ") && strings.HasPrefix(line, "    "):
			from, indent := i, line[:strings.Index(line, "a")]
			var text []string
			for ; i < len(lines) && (lines[i] == "" || strings.HasPrefix(lines[i], indent)) && !strings.HasPrefix(lines[i], indent+"$ "); i++ {
				text = append(text, strings.TrimPrefix(lines[i], indent))
			}
			out = append(out, block{from + 1, strings.Join(text, "\n")})
		}
	}
	return out
}

// fragment is the beginning of an object of which a block shows the rest.
type fragment struct {
	begins string // how the block begins
	whole  string
	indent bool
}

var fragments = []fragment{
	{"    - name: ", "apiVersion: policy.underlane.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec:\n  targetRefs: [{group: '', kind: Pod, selector: {}}]\n  action: ALLOW\n  enforcementLevel: Application\n  rules:\n", false},
	{"filters:", "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec:\n  parentRefs: [{group: '', kind: Service, name: web}]\n  rules:\n  -\n", true},
	{"  rules:", "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a, namespace: shop}\nspec:\n  parentRefs: [{group: '', kind: Service, name: web}]\n", false},
	{"metadata:", "apiVersion: networking.k8s.io/v1\nkind: Ingress\n", false},
}

// complete makes objects of the documents of a block.
func (b block) complete() (string, error) {
	var out []string
	for doc := range strings.SplitSeq(b.text, "\n---\n") {
		if !strings.Contains("\n"+doc, "\napiVersion: ") {
			i := slices.IndexFunc(fragments, func(f fragment) bool { return strings.HasPrefix(doc, f.begins) })
			if i < 0 {
				return "", fmt.Errorf("it is neither an object nor a part of one that is known here: %.40q", doc)
			}
			if fragments[i].indent {
				doc = "    " + strings.ReplaceAll(doc, "\n", "\n    ")
			}
			doc = fragments[i].whole + doc
		}
		var object map[string]any
		if err := yaml.UnmarshalStrict([]byte(doc), &object); err != nil {
			return "", err
		}
		out = append(out, doc)
	}
	return strings.Join(out, "\n---\n"), nil
}

// elsewhere are problems of an example whose other objects are not shown.
var elsewhere = regexp.MustCompile(`there is no (Service|HTTPFault|EgressNetwork) |Server \S+ does not exist`)

// problems returns what the controller says of a block.
func (b block) problems() (out []string) {
	text, err := b.complete()
	if err != nil {
		return []string{err.Error()}
	}
	objects, err := watch.Decode([]byte(text))
	if err != nil {
		return []string{err.Error()}
	}
	for _, p := range translate.Translate(objects, "cluster.local").Problems {
		if !elsewhere.MatchString(p.Reason) {
			out = append(out, p.String())
		}
	}
	return out
}

// TestYAML: the controller understands the objects that pages show.
func TestYAML(t *testing.T) {
	blocks := 0
	for _, page := range pages(t) {
		if !strings.HasPrefix(page, "docs/") && page != "README.md" {
			continue
		}
		for _, b := range yamlBlocks(read(t, page)) {
			blocks++
			for _, p := range b.problems() {
				t.Errorf("%s:%d: %s", page, b.line, p)
			}
		}
	}
	if blocks < 15 {
		t.Errorf("only %d blocks found: have they another form by now?", blocks)
	}
}

// TestYAMLCanFail feeds the test above what it must refuse.
func TestYAMLCanFail(t *testing.T) {
	const policy = "apiVersion: policy.underlane.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {targetRefs: [{group: '', kind: Pod, selector: {}}], action: %s, enforcementLevel: Network}\n"
	for text, want := range map[string]string{
		"```yaml\n" + fmt.Sprintf(policy, "ALLOW") + "```\n": "",
		"```yaml\n" + fmt.Sprintf(policy, "LOG") + "```\n":   "action",
		"```yaml\nkeys: [\n```\n":                            "neither an object",
		"```yaml\napiVersion: x/v1\nkind: Y\nkind: Z\n```\n": "already",
		"```yaml\nfilters: [{type: Odd}]\n```\n":             "Odd",
		"```yaml\n    - name: a\n      sauces: []\n```\n":    "sauces",
		"    apiVersion: gateway.networking.k8s.io/v1\n    kind: HTTPRoute\n    metadata: {name: a}\n    spec: {x: 1}\n":         "spec.x",
		"        $ cat a\n        apiVersion: v1\n        kind: Pod\n        metadata: {name: a}\n        $ odd: [\n":            "",
		"    apiVersion: v1\n    kind: Service\n    metadata: {name: a}\n    spec: {ports: [{port: 80, prot: x}]}\n\nother: [\n": "prot",
	} {
		all := yamlBlocks(text)
		if len(all) != 1 {
			t.Errorf("%q: %d blocks", text, len(all))
			continue
		}
		got := strings.Join(all[0].problems(), "; ")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
