package docstest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	links  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fenced = regexp.MustCompile("(?ms)^```.*?^```")
)

// anchors are the fragments that a page's headings make.
func anchors(text string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		slug := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		out = append(out, strings.ReplaceAll(slug, " ", "-"))
	}
	return out
}

func TestLinks(t *testing.T) {
	found := 0
	for _, page := range pages(t) {
		for _, m := range links.FindAllStringSubmatch(fenced.ReplaceAllString(read(t, page), ""), -1) {
			path, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, "://") || strings.HasPrefix(path, "mailto:") {
				continue
			}
			found++
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil || strings.HasPrefix(target, "..") {
				t.Errorf("%s: link %s leads nowhere", page, m[1])
				continue
			}
			if fragment != "" && !slices.Contains(anchors(read(t, target)), fragment) {
				t.Errorf("%s: link %s: there is no such heading", page, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("no relative link found: has their form changed?")
	}
}

// What pages tell people to type must exist: make targets, and commands of the
// lab and the agent.
func TestCommandsExist(t *testing.T) {
	targets := firsts(t, `(?m)^([a-z-]+):`, read(t, "Makefile"))
	lab, agent := commands(t, "test/lab/cmd/lab"), commands(t, "cmd/agent")
	for _, page := range pages(t) {
		text := read(t, page)
		for _, c := range []struct {
			pattern string
			known   []string
		}{
			{"(?m)(?:^ +(?:\\$ )?|`)make ([a-z-]+)", targets},
			{"(?m)(?:^ +(?:\\$ )?|`)bin/lab ([a-z-]+)", lab},
			{`\bagent node-\d -- ([a-z]+)`, agent},
			{"`agent ([a-z]+)", agent},
		} {
			for _, m := range regexp.MustCompile(c.pattern).FindAllStringSubmatch(text, -1) {
				if !slices.Contains(c.known, m[1]) {
					t.Errorf("%s: %q: there is only %v", page, m[0], c.known)
				}
			}
		}
	}
}

// The commands that the README says are missing are missing.
func TestNotYet(t *testing.T) {
	_, text, ok := strings.Cut(read(t, "README.md"), "\nNot yet: ")
	if !ok {
		t.Fatal("README.md has no list of what there is not yet")
	}
	text, _, _ = strings.Cut(text, "\n\n")
	for _, m := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(text, -1) { // there may be none
		name := m[1]
		for _, program := range []string{"cmd/agent", "cmd/controller", "cmd/underlane"} {
			if slices.Contains(commands(t, program), name) {
				t.Errorf("README.md says that there is no %s: %s has it", name, program)
			}
		}
	}
}

// The names that the architecture tells newcomers to look for are in the code,
// and every map is in its table.
func TestNamesExist(t *testing.T) {
	const page = "docs/ARCHITECTURE.md"
	text := read(t, page)
	var code strings.Builder
	known := map[string]bool{}
	for _, path := range files(t, ".go", ".c", ".h") {
		if !strings.HasSuffix(path, "_test.go") {
			code.WriteString(read(t, path))
			continue
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(read(t, path), -1) {
			known[m[1]] = true
		}
	}
	for _, word := range regexp.MustCompile(`\w+`).FindAllString(code.String(), -1) {
		known[word] = true
	}
	for _, name := range firsts(t, "`([A-Za-z_][\\w.]*)(?:\\(\\))?`", text) {
		if strings.HasSuffix(name, ".go") {
			continue // a file of the package that was just named
		}
		for _, word := range strings.Split(name, ".") {
			if !known[word] {
				t.Errorf("%s: there is no %s in the code", page, name)
			}
		}
	}
	var programs strings.Builder
	for _, path := range files(t, ".c", ".h") {
		if strings.HasPrefix(path, "bpf/") {
			programs.WriteString(read(t, path))
		}
	}
	pinned := firsts(t, `LIBBPF_PIN_BY_NAME\);\n\} (\w+) SEC\("\.maps"\);`, programs.String())
	for _, name := range firsts(t, `(?m)^\} (\w+) SEC\("\.maps"\);`, programs.String()) {
		if slices.Contains(pinned, name) && !regexp.MustCompile(`/sys/fs/bpf/underlane/\{[^}]*\b`+name+`\b`).MatchString(text) || !strings.Contains(text, name) || !strings.Contains(read(t, "docs/debugging.md"), "`"+name+"`") {
			t.Errorf("the map %s is missing in %s or in docs/debugging.md", name, page)
		}
	}
}
