package docstest

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	fileName   = regexp.MustCompile(`^[\w*.-]+\.(?:go|c|h|proto|sh)$`)
	identifier = regexp.MustCompile(`^[A-Za-z_]\w*(?:\.\w+)*(?:\(\))?$`)
	qualified  = regexp.MustCompile(`^([a-z]\w*)\.[A-Z]\w*(?:\.\w+)?(?:\(\))?$`)
	// Between two names of one list, and between a name and where it is.
	alongside = regexp.MustCompile(`^(?:,|,? and|,? or)\s+$`)
	ourPath   = regexp.MustCompile(`^[\w*./-]*$`)
	inside    = regexp.MustCompile(`^(?:,? (?:in|of)|,|:| \()\s*$`)
)

// claims finds what a page says of the code that is not so:
//
//   - a path of the repository, or `name.go` beside one in the same paragraph,
//     that does not exist;
//   - `Name` in `path`, also of lists (`a` and `b` in `path`) and in parentheses
//     (`Name`, `path`), which that file or package does not declare;
//   - `pkg.Name` or `pkg.Type.Member`, of a package of ours, which it does not.
func claims(c *code, text string) []string {
	var out []string
	for _, block := range blocks(text) {
		all := spans(block)
		dirs := c.dirs(all)
		var names []string // that wait for the path they are in
		for i, s := range all {
			if i > 0 && !inside.MatchString(s.before) && !alongside.MatchString(s.before) {
				names = nil
			}
			for _, word := range strings.Fields(s.text) {
				if c.isOurs(word) && !c.exists(trimPath(word)) {
					out = append(out, "there is no "+word)
				}
			}
			target := trimPath(s.text)
			switch {
			case c.isOurs(s.text):
			case fileName.MatchString(s.text):
				if target = c.beside(dirs, s.text); target == "" {
					out = append(out, fmt.Sprintf("there is no %s in the directories that the paragraph names (%s): name its path", s.text, strings.Join(dirs, ", ")))
				}
			case identifier.MatchString(s.text):
				names = append(names, s.text)
				if m := qualified.FindStringSubmatch(s.text); m != nil && c.packages[m[1]] != nil &&
					!slices.ContainsFunc(c.packages[m[1]], func(dir string) bool { return c.declares(dir, s.text) }) {
					out = append(out, fmt.Sprintf("package %s does not declare %s", m[1], s.text))
				}
				continue
			default:
				target = ""
			}
			if inside.MatchString(s.before) && c.exists(target) && !strings.Contains(target, "*") {
				out = append(out, c.missing(target, names)...)
			}
			names = nil
		}
	}
	return out
}

// missing are those of names that target does not declare.
func (c *code) missing(target string, names []string) (out []string) {
	if ext := path.Ext(target); ext != "" && c.files[target] == nil {
		return nil // no source
	}
	for _, name := range names {
		if !c.declares(target, name) {
			out = append(out, fmt.Sprintf("%s does not declare %s, which is in %v", target, name, c.where(name)))
		}
	}
	return out
}

func trimPath(word string) string {
	return strings.TrimSuffix(strings.TrimPrefix(word, "./"), "/...")
}

// isOurs tells a path that begins with a directory at the top of the repository.
func (c *code) isOurs(word string) bool {
	top, rest, ok := strings.Cut(trimPath(word), "/")
	return ok && c.paths[top] && ourPath.MatchString(rest)
}

// dirs are the directories that the spans name, and those of the files they name.
func (c *code) dirs(all []span) (out []string) {
	for _, s := range all {
		dir := strings.TrimSuffix(trimPath(s.text), "/")
		if !c.isOurs(s.text) {
			continue
		}
		if path.Ext(dir) != "" {
			dir = path.Dir(dir)
		}
		if !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	return out
}

// beside finds a file by its name in one of dirs, or at the top.
func (c *code) beside(dirs []string, name string) string {
	for _, dir := range append([]string{"."}, dirs...) {
		if p := path.Join(dir, name); c.exists(p) {
			return p
		}
	}
	return ""
}

func TestClaims(t *testing.T) {
	c := newCode(t, files(t), func(path string) string { return read(t, path) })
	for _, page := range pages(t) {
		for _, wrong := range claims(c, read(t, page)) {
			t.Errorf("%s: %s", page, wrong)
		}
	}
	// Were the form of the pages to change, the check would find nothing to look at.
	const page, few = "docs/ARCHITECTURE.md", 20
	empty := &code{files: map[string]map[string]bool{}, packages: c.packages, inDir: c.inDir, paths: c.paths}
	for p := range c.files {
		empty.files[p] = map[string]bool{}
	}
	if got := len(claims(empty, read(t, page))); got < few {
		t.Errorf("%s makes %d claims, want %d or more", page, got, few)
	}
}

// TestClaimsCanFail feeds the check what it must refuse, and what it must not.
func TestClaimsCanFail(t *testing.T) {
	sources := map[string]string{
		"pkg/a/a.go":      "package a\n\ntype T[X any] struct {\n\tF int\n}\n\nfunc (t *T[X]) m() {}\n\nfunc Do() {}\n",
		"pkg/a/b.go":      "package a\n\nvar (\n\tv int\n)\n\ntype I interface{ Do2() }\n",
		"pkg/a/a_test.go": "package a\n\nfunc helper() {}\n",
		"bpf/x.c":         "/* ghost */ int on_connect(void) { return 0; } // ghost\n",
		"docs/d.md":       "",
	}
	var paths []string
	for p := range sources {
		paths = append(paths, p)
	}
	c := newCode(t, paths, func(path string) string { return sources[path] })
	in := func(file, name, is string) string {
		return fmt.Sprintf("%s does not declare %s, which is in %s", file, name, is)
	}
	for text, want := range map[string][]string{
		"`Do` in `pkg/a/a.go`":                               nil,
		"`Do` in\n`pkg/a/a.go`":                              nil,
		"`Do()` in `pkg/a`":                                  nil,
		"`v` in `pkg/a/a.go`":                                {in("pkg/a/a.go", "v", "[pkg/a/b.go]")},
		"`gone` in `pkg/a`":                                  {in("pkg/a", "gone", "[]")},
		"`helper` in `pkg/a`":                                {in("pkg/a", "helper", "[]")},
		"it does (`Do`, `pkg/a/b.go`)":                       {in("pkg/a/b.go", "Do", "[pkg/a/a.go]")},
		"`Do`, `v` and `I` of `pkg/a/b.go`":                  {in("pkg/a/b.go", "Do", "[pkg/a/a.go]")},
		"`T.m`, `T.F` and `a.T.F` in `pkg/a/a.go`":           nil,
		"`T.n` in `pkg/a/a.go`":                              {in("pkg/a/a.go", "T.n", "[]")},
		"`v`. In `pkg/a/a.go` there is nothing":              nil,
		"`v` is not what is in `pkg/a/a.go`":                 nil,
		"`on_connect` in `bpf/x.c`":                          nil,
		"`ghost` in `bpf/x.c`":                               {in("bpf/x.c", "ghost", "[]")},
		"`on_connect` in `x.c` of `bpf/`":                    nil,
		"`Do` in `a.go`, beside `pkg/a/b.go`":                nil,
		"`v` in `a.go`, beside `pkg/a/b.go`":                 {in("pkg/a/a.go", "v", "[pkg/a/b.go]")},
		"`pkg/a/b.go`\n\n`a.go`":                             {"there is no a.go in the directories that the paragraph names (): name its path"},
		"| `pkg/a` |\n| `a.go` |":                            {"there is no a.go in the directories that the paragraph names (): name its path"},
		"- `pkg/a`\n- `a.go`":                                {"there is no a.go in the directories that the paragraph names (): name its path"},
		"- `pkg/a` is\n  long\n\n    code `pkg/b`\n":         {"there is no pkg/b"},
		"`a.T`, `a.T.F`, `a.T.m` and `a.Do`":                 nil,
		"`a.U`":                                              {"package a does not declare a.U"},
		"`a.T.G`":                                            {"package a does not declare a.T.G"},
		"`a.privileged`, `tls.Config`":                       nil, // a value of the chart; no package of ours
		"`pkg/b`":                                            {"there is no pkg/b"},
		"`go test -race ./pkg/b/...`":                        {"there is no ./pkg/b/..."},
		"`pkg/*/a.go`, `pkg/a/*_test.go`, `bpf/`, `log/log`": nil,
		"`pkg/a/*.c`":                                        {"there is no pkg/a/*.c"},
		"```\n`pkg/b`\n```\n\n    `pkg/b`\n":                 nil,
		"`strict` in `docs/d.md`":                            nil,
	} {
		if diff := cmp.Diff(want, claims(c, text)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}
