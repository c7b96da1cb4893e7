package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// execute runs the command line and returns what it printed.
func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := command()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestTokenIsTheNodesOwn(t *testing.T) {
	dir := t.TempDir()
	token := func(node string) string {
		out, err := execute(t, "token", "--data-dir", dir, "--node", node)
		if err != nil || strings.Count(out, "\n") != 1 || len(out) < 32 {
			t.Fatalf("%q %v", out, err)
		}
		return out
	}
	first, again, other := token("n1"), token("n1"), token("n2")
	if first != again || first == other {
		t.Error("tokens must be stable, and differ from node to node")
	}
}

func TestMistakesAreNamed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for want, args := range map[string][]string{
		"--manifests":        {},
		"no such file":       {"--kubeconfig", missing},
		`"node" not set`:     {"token"},
		"manifest directory": {"--manifests", missing, "--data-dir", t.TempDir()},
		"unknown command":    {"tokn"},
	} {
		if _, err := execute(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}
