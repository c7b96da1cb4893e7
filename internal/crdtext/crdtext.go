// Package crdtext reads the CustomResourceDefinitions of the chart as YAML, without Helm, for
// tests.
package crdtext

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var (
	define  = regexp.MustCompile(`(?s)\{\{- define "([^"]+)" -\}\}\n(.*?)\n\{\{- end \}\}`)
	include = regexp.MustCompile(`^( *)\{\{- include "(underlane\.policy\.[^"]+)" \. \| nindent (\d+) \}\}$`)
)

// Read returns a template of the chart's directory templates, with the parts of definitions
// that _policy.tpl has, and without other actions.
func Read(dir, template string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, template))
	if err != nil {
		return "", err
	}
	shared, err := os.ReadFile(filepath.Join(dir, "_policy.tpl"))
	if err != nil {
		return "", err
	}
	parts := map[string]string{}
	for _, m := range define.FindAllStringSubmatch(string(shared), -1) {
		parts[m[1]] = m[2]
	}
	var out []string
	for line := range strings.SplitSeq(string(text), "\n") {
		m := include.FindStringSubmatch(line)
		switch {
		case m == nil && !strings.Contains(line, "{{"):
			out = append(out, line)
		case m == nil:
		case parts[m[2]] == "" || fmt.Sprint(len(m[1])) != m[3]:
			return "", fmt.Errorf("%s: %q: want a template of _policy.tpl with the indentation of the line", template, line)
		default:
			for part := range strings.SplitSeq(parts[m[2]], "\n") {
				out = append(out, m[1]+part)
			}
		}
	}
	return strings.Join(out, "\n"), nil
}
