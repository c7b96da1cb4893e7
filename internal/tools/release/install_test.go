package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/release"
)

// shells and downloaders are those that the script is run with, in all pairs. busybox's
// wget checks no certificates, so it needs openssl or an underlane of before.
var (
	shells      = [][]string{{"dash"}, {"bash"}, {"busybox", "sh"}}
	downloaders = []string{"curl", "wget", "busybox"}
)

// published is a server with the releases v0.1.0 and v0.2.0, whose command lines are
// scripts that print their version. Its files can be spoiled.
type published struct {
	t       *testing.T
	url     string
	dir     string
	handler http.Handler
	// spoil is asked before a file is sent, and may send another answer. It reports
	// whether it has.
	spoil func(w http.ResponseWriter, r *http.Request) bool
}

func publish(t *testing.T) *published { return publishBy(t, 0) }

// publishBy publishes what one of the keys has signed.
func publishBy(t *testing.T, key byte) *published {
	p := &published{t: t, dir: t.TempDir()}
	files := http.FileServer(http.Dir(p.dir))
	p.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.spoil == nil || !p.spoil(w, r) {
			files.ServeHTTP(w, r)
		}
	})
	s := httptest.NewServer(p.handler)
	t.Cleanup(s.Close)
	p.url = s.URL
	for _, version := range []string{"v0.1.0", "v0.2.0"} {
		o := testOptions(t, root)
		o.Out, o.Version, o.BaseURL, o.Previous = p.dir, version, p.url, p.dir
		o.KeyFile, _ = keyFiles(t, key)
		for _, do := range []func() error{
			func() error { return o.check(t.Context()) },
			func() error { return os.MkdirAll(filepath.Join(p.dir, "channels"), 0o755) },
			func() error { return os.MkdirAll(o.dir(), 0o755) },
			func() error { return os.WriteFile(p.program(version), program(version), 0o644) },
			o.sums, o.channel, o.script,
		} {
			if err := do(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return p
}

func (p *published) program(version string) string {
	return filepath.Join(p.dir, version, "underlane-"+version+"-linux-"+runtime.GOARCH)
}

// program is large enough for half of it to be noticed on its way.
func program(version string) []byte {
	return []byte("#!/bin/sh\n# " + strings.Repeat("x", 200_000) + "\necho " + version + "\n")
}

// user is somebody who runs the script: a home, and the programs that are there.
type user struct {
	t         *testing.T
	home, bin string
	shell     []string
	env       []string
}

// newUser has only the programs named, and what any system has.
func newUser(t *testing.T, shell []string, programs ...string) *user {
	u := &user{t: t, home: t.TempDir(), bin: t.TempDir(), shell: shell}
	for _, name := range slices.Concat(programs, []string{"sh", "uname", "mkdir", "rmdir", "mv", "ln", "chmod", "rm", "sed", "mktemp", "cat", "dd", "head", "sha256sum", "sleep", "wc"}) {
		as := name
		if name == "busybox" { // its wget
			as = "wget"
		}
		path, err := exec.LookPath(name)
		if err == nil {
			err = os.Symlink(path, filepath.Join(u.bin, as))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// run runs a script, and returns what it prints.
func (u *user) run(script string, env ...string) (string, error) {
	u.t.Helper()
	path, err := exec.LookPath(u.shell[0])
	if err != nil {
		u.t.Fatal(err)
	}
	// The limit is for a script that hangs: no test waits for it.
	ctx, cancel := context.WithTimeout(u.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, u.shell[1:]...)
	cmd.Dir = u.home
	cmd.Stdin = strings.NewReader(script)
	cmd.Env = slices.Concat([]string{"HOME=" + u.home, "PATH=" + u.bin}, u.env, env)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// script is install.sh as it is published.
func (p *published) script() string {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "install.sh"))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

func (u *user) installed() string {
	link, err := os.Readlink(filepath.Join(u.home, ".underlane/bin/underlane"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		u.t.Fatal(err)
	}
	return link
}

// left are the files under ~/.underlane.
func (u *user) left() []string {
	var names []string
	for name := range readTree(u.t, u.home) {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// empty fails the test if a script has left anything, directories too.
func (u *user) empty(what string) {
	u.t.Helper()
	entries, err := os.ReadDir(u.home)
	if err != nil || len(entries) != 0 {
		u.t.Errorf("%s: it has left %v, %v: %v", what, entries, u.left(), err)
	}
}

// Each shell with each downloader installs the newest, then an older one that is asked for,
// and says what can be done next; and errors are sentences that leave nothing behind.
func TestInstall(t *testing.T) {
	for _, shell := range shells {
		for _, get := range downloaders {
			t.Run(strings.Join(shell, "-")+"/"+get, func(t *testing.T) {
				t.Parallel()
				p := publish(t)
				script := p.script()
				u := newUser(t, shell, get, "openssl")
				for _, c := range []struct{ env, want string }{{"UNDERLANE_CHANNEL=stable", "v0.2.0"}, {"UNDERLANE_VERSION=0.1.0", "v0.1.0"}, {"UNDERLANE_CHANNEL=edge", "v0.2.0"}} {
					out, err := u.run(script, c.env)
					if err != nil || u.installed() != "underlane-"+c.want {
						t.Fatalf("%s: %v, %s\n%s", c.env, err, u.installed(), out)
					}
					for _, want := range []string{"Underlane " + c.want + " is installed", "its checksum and its signature (by openssl)", `export PATH="` + u.home, "underlane check --pre"} {
						if !strings.Contains(out, want) {
							t.Errorf("%s: it does not say %q:\n%s", c.env, want, out)
						}
					}
				}
				if n := len(u.left()); n != 4 { // two versions, each also by its link and kubectl's
					t.Errorf("%d files: %v", n, u.left())
				}
				fails(t, p, script, shell, get)
			})
		}
	}
}

// fails spoils what is published in each way.
func fails(t *testing.T, p *published, script string, shell []string, get string) {
	defer func() { p.spoil = nil }()
	half := program("v0.2.0")[:100_000]
	for _, c := range []struct {
		what, env, want string
		spoil           func(http.ResponseWriter, *http.Request) bool
	}{
		{what: "no such version", env: "UNDERLANE_VERSION=v9.9.9", want: "There is no version v9.9.9 at " + p.url},
		{what: "not a version", env: "UNDERLANE_VERSION=../etc", want: "is no version"},
		{what: "no such channel", env: "UNDERLANE_CHANNEL=nightly", want: "There is no channel nightly"},
		{what: "another word for required", env: "UNDERLANE_SIGNATURE=yes", want: "UNDERLANE_SIGNATURE is yes, and has to be: required"},
		// What is signed, and for others.
		{what: "another channel", want: "The file of the channel stable at " + p.url + " is that of another channel", spoil: func(w http.ResponseWriter, r *http.Request) bool {
			name := strings.Replace(r.URL.Path, "/stable.", "/edge.", 1)
			if name == r.URL.Path {
				return false
			}
			http.ServeFile(w, r, filepath.Join(p.dir, name))
			return true
		}},
		{what: "no network", env: "UNDERLANE_BASE_URL=http://127.0.0.1:1", want: "Cannot download http://127.0.0.1:1/channels/stable.json; is the network there?"},
		{what: "server error", want: "the server answers 500", spoil: spoiled("SHA256SUMS", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 500) })},
		{what: "cut file", want: "The checksum of underlane-v0.2.0", spoil: spoiled(runtime.GOARCH, func(w http.ResponseWriter, _ *http.Request) { w.Write(half) })},
		{what: "wrong file", want: "The checksum of underlane-v0.2.0", spoil: spoiled(runtime.GOARCH, func(w http.ResponseWriter, _ *http.Request) { w.Write(program("v6.6.6")) })},
		{what: "wrong sums", want: "The signature of version v0.2.0 is wrong", spoil: spoiled("SHA256SUMS", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "0000  x") })},
		{what: "no signature", want: "has no signature", spoil: spoiled("SHA256SUMS.sig", http.NotFound)},
		{what: "empty signature", want: "The signature of version v0.2.0 is wrong", spoil: spoiled("SHA256SUMS.sig", func(http.ResponseWriter, *http.Request) {})},
		{what: "wrong channel", want: "The signature of the channel stable is wrong", spoil: spoiled("stable.json", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, `  "newest": "v0.1.0",`) })},
		// A connection that ends early, and one on which nothing more comes.
		{what: "ended early", want: map[string]string{"curl": "has ended early"}[get], spoil: spoiled(runtime.GOARCH, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "200000")
			w.Write(half)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})},
		{what: "slow", env: "UNDERLANE_TIMEOUT=1", want: map[string]string{"curl": "too slow", "busybox": "too slow"}[get], spoil: spoiled(runtime.GOARCH, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "200000")
			w.Write(half)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})},
	} {
		p.spoil = c.spoil
		u := newUser(t, shell, get, "openssl")
		out, err := u.run(script, c.env)
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v, want %q:\n%s", c.what, err, c.want, out)
		}
		u.empty(c.what)
	}
	p.spoil = nil
	// A limit of the size of files stands for a full disk: both fail in write().
	u := newUser(t, shell, get, "openssl")
	out, err := u.run("trap '' XFSZ\nulimit -f 100\n" + script)
	if err == nil || !strings.Contains(out, "is the disk full?") || u.installed() != "" {
		t.Errorf("full disk: %v:\n%s", err, out)
	}
}

// The channels of the releases before are signed again, so they need a signature.
func TestPreviousChannel(t *testing.T) {
	p := publish(t)
	o := testOptions(t, root)
	o.Version, o.Previous = "v0.3.0", p.dir
	for _, err := range []error{o.check(t.Context()), os.MkdirAll(filepath.Join(o.Out, "channels"), 0o755), o.channel()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(p.dir, "channels/stable.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "v0.0.0", "v0.0.9")), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := o.channel(); !errors.Is(err, release.ErrSignature) {
		t.Errorf("a channel that was changed on the server: %v", err)
	}
	// A release by another key takes those that it is told the key of.
	o = testOptions(t, root)
	o.Version, o.Previous = "v0.3.0", publish(t).dir
	o.KeyFile, _ = keyFiles(t, 1)
	for _, err := range []error{o.check(t.Context()), os.MkdirAll(filepath.Join(o.Out, "channels"), 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := o.channel(); !errors.Is(err, release.ErrSignature) {
		t.Errorf("a channel of another key: %v", err)
	}
	_, o.PreviousKeyFile = keyFiles(t, 0)
	for _, err := range []error{o.check(t.Context()), o.channel()} {
		if err != nil {
			t.Errorf("a channel of the key before: %v", err)
		}
	}
	text, err = os.ReadFile(filepath.Join(o.Out, "channels/stable.json"))
	if c, err := release.ParseChannel("stable", text); err != nil || len(c.Releases) != 3 {
		t.Errorf("%+v, %v", c, err)
	}
	signature, serr := os.ReadFile(filepath.Join(o.Out, "channels/stable.json.sig"))
	if err := errors.Join(err, serr, release.Verify(encoded(o.public), text, signature)); err != nil {
		t.Error(err)
	}
}

// A script that arrives in part does nothing, wherever it is cut.
func TestInstallCut(t *testing.T) {
	p := publish(t)
	whole := strings.TrimSuffix(p.script(), "\n")
	for _, n := range []int{1, 2, len("install_underlane") + 1, 200, 2000, 4000, len(whole) - 1500} {
		u := newUser(t, []string{"dash"}, "curl", "openssl")
		out, _ := u.run(whole[:len(whole)-n])
		if left := u.left(); len(left) != 0 || strings.Contains(out, "Download") {
			t.Errorf("without its last %d bytes: %v\n%s", n, left, out)
		}
	}
}

// What is checked depends on what is there, and is said. Where nothing can be checked,
// nothing is installed.
func TestInstallChecks(t *testing.T) {
	p := publish(t)
	script := p.script()
	u := newUser(t, []string{"dash"}, "curl")
	if out, err := u.run(script); err == nil || !strings.Contains(out, "does not come by HTTPS") || u.installed() != "" {
		t.Errorf("without openssl, by HTTP: %v\n%s", err, out)
	}
	if out, err := u.run(script, "UNDERLANE_SIGNATURE=required", "UNDERLANE_BASE_URL="+p.url); err == nil || !strings.Contains(out, "cannot be checked here: that needs openssl") {
		t.Errorf("required: %v\n%s", err, out)
	}
	// An openssl that does not know Ed25519 is one that says no to everything.
	if err := os.WriteFile(filepath.Join(u.bin, "openssl"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := u.run(script); err == nil || !strings.Contains(out, "cannot be checked here") || strings.Contains(out, "is wrong") {
		t.Errorf("an old openssl: %v\n%s", err, out)
	}
	for name, says := range map[string]string{"Plan9": "There is no Underlane for Plan9", "MINGW64_NT-10.0": "On Windows, download"} {
		if err := os.Remove(filepath.Join(u.bin, "uname")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(u.bin, "uname"), []byte("#!/bin/sh\necho "+name+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := u.run(script); err == nil || !strings.Contains(out, says) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
