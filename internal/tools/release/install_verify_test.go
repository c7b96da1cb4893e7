package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// checkVerify installs by the script where there is no openssl: the program, which an
// earlier release has installed, checks the signatures.
func checkVerify(t *testing.T, program []byte) {
	p := publish(t)
	script, err := os.ReadFile(filepath.Join(p.dir, "install.sh"))
	if err != nil {
		t.Fatal(err)
	}
	u := newUser(t, []string{"dash"}, "curl")
	bin := filepath.Join(u.home, ".underlane/bin")
	for _, err := range []error{
		os.MkdirAll(bin, 0o755),
		os.WriteFile(filepath.Join(bin, "underlane-v0.0.9"), program, 0o755),
		os.Symlink("underlane-v0.0.9", filepath.Join(bin, "underlane")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/SHA256SUMS") {
			fmt.Fprintln(w, "0000  x")
			return true
		}
		return false
	}
	if out, err := u.run(string(script)); err == nil || !strings.Contains(out, "The signature of version v0.2.0 is wrong") || u.installed() != "underlane-v0.0.9" {
		t.Errorf("other checksums: %v, %s:\n%s", err, u.installed(), out)
	}
	p.spoil = nil
	if out, err := u.run(string(script)); err != nil || !strings.Contains(out, "by the underlane that was there") || u.installed() != "underlane-v0.2.0" {
		t.Errorf("%v, %s:\n%s", err, u.installed(), out)
	}
	// The key of the script counts, which may have replaced that of the program.
	if err := os.Remove(filepath.Join(bin, "underlane")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("underlane-v0.0.9", filepath.Join(bin, "underlane")); err != nil {
		t.Fatal(err)
	}
	another := publishBy(t, 1)
	if out, err := u.run(string(script), "UNDERLANE_BASE_URL="+another.url); err == nil || !strings.Contains(out, "The signature of the channel stable is wrong") || u.installed() != "underlane-v0.0.9" {
		t.Errorf("files of another key: %v, %s:\n%s", err, u.installed(), out)
	}
	if out, err := u.run(another.script()); err != nil || !strings.Contains(out, "by the underlane that was there") || u.installed() != "underlane-v0.2.0" {
		t.Errorf("another key: %v, %s:\n%s", err, u.installed(), out)
	}
	// A person who checks with the program is told about it.
	sums := filepath.Join(another.dir, "v0.2.0/SHA256SUMS")
	_, public := keyFiles(t, 1)
	for _, c := range []struct {
		want string
		args []string
	}{
		{"or the key has been replaced since v0.2.0", []string{"verify", sums}},
		{"released by the holder of the key in " + public, []string{"verify", "--public-key", public, sums}},
		{"no PEM block", []string{"verify", "--public-key", sums, sums}},
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "underlane-v0.0.9"), c.args...)
		if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), c.want) {
			t.Errorf("%v: %s, want %q", c.args, out, c.want)
		}
	}
}
