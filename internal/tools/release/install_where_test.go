package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds what no test waits for.
const patience = 2 * time.Minute

// each runs a test with each shell and each downloader.
func each(t *testing.T, do func(t *testing.T, shell []string, get string)) {
	for _, shell := range shells {
		for _, get := range downloaders {
			t.Run(strings.Join(shell, "-")+"/"+get, func(t *testing.T) {
				t.Parallel()
				do(t, shell, get)
			})
		}
	}
}

// without takes programs away from a user.
func (u *user) without(programs ...string) {
	u.t.Helper()
	for _, name := range programs {
		if err := os.Remove(filepath.Join(u.bin, name)); err != nil {
			u.t.Fatal(err)
		}
	}
}

// ^C reaches all processes of a terminal; what ends a job may end the shell only. Neither
// leaves a file, or a process that goes on downloading.
func TestInstallInterrupted(t *testing.T) {
	// A shell that began with a signal ignored cannot trap it. What is caught here is not
	// ignored there.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hangup) })
	each(t, func(t *testing.T, shell []string, get string) {
		for _, c := range []struct {
			what   string
			signal syscall.Signal
			group  bool
			status int
		}{
			{"^C", syscall.SIGINT, true, 130},
			{"SIGTERM", syscall.SIGTERM, false, 143},
			{"SIGHUP", syscall.SIGHUP, true, 143},
		} {
			p := publish(t)
			stuck, gone := make(chan struct{}), make(chan struct{})
			p.spoil = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, runtime.GOARCH) {
					return false
				}
				w.Header().Set("Content-Length", "200000")
				_, _ = w.Write(program("v0.2.0")[:100_000])
				_ = http.NewResponseController(w).Flush()
				close(stuck)
				<-r.Context().Done()
				close(gone)
				return true
			}
			u := newUser(t, shell, get, "openssl")
			path, err := exec.LookPath(shell[0])
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), path, shell[1:]...)
			cmd.Stdin, cmd.Dir = strings.NewReader(p.script()), u.home
			cmd.Env = []string{"HOME=" + u.home, "PATH=" + u.bin, "UNDERLANE_TIMEOUT=600"}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for _, step := range []struct {
				what string
				is   chan struct{}
				then func()
			}{
				{"asks for the program", stuck, func() {
					to := cmd.Process.Pid
					if c.group {
						to = -to
					}
					if err := syscall.Kill(to, c.signal); err != nil {
						t.Error(err)
					}
				}},
				{"lets go of the server", gone, func() {}},
			} {
				select {
				case <-step.is:
					step.then()
				case <-time.After(patience):
					_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
					t.Errorf("%s: it never %s", c.what, step.what)
				}
			}
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != c.status {
				t.Errorf("%s: exit status %d, want %d", c.what, got, c.status)
			}
			u.empty(c.what)
		}
	})
}

// Two that install different versions at the same time both succeed, whichever is the last,
// and one that fails meanwhile takes nothing away from them.
func TestInstallAtOnce(t *testing.T) {
	each(t, func(t *testing.T, shell []string, get string) {
		p := publish(t)
		var both, failed sync.WaitGroup
		both.Add(2)
		failed.Add(1)
		p.spoil = func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, runtime.GOARCH) {
				both.Done()
				failed.Wait()
			}
			return false
		}
		u := newUser(t, shell, get, "openssl")
		var done sync.WaitGroup
		for _, version := range []string{"v0.1.0", "v0.2.0"} {
			done.Go(func() {
				if out, err := u.run(p.script(), "UNDERLANE_VERSION="+version); err != nil {
					t.Errorf("%s: %v\n%s", version, err, out)
				}
			})
		}
		both.Wait()
		if out, err := u.run(p.script(), "UNDERLANE_VERSION=v0.9.0"); err == nil {
			t.Errorf("v0.9.0: no error\n%s", out)
		}
		failed.Done()
		done.Wait()
		bin := filepath.Join(u.home, ".underlane/bin")
		for _, name := range []string{"underlane", "kubectl-underlane"} {
			path, err := filepath.EvalSymlinks(filepath.Join(bin, name))
			if err != nil || filepath.Base(path) != u.installed() {
				t.Errorf("%s is %s, and underlane is %s: %v", name, path, u.installed(), err)
			}
		}
		entries, err := os.ReadDir(filepath.Join(u.home, ".underlane"))
		if err != nil || len(entries) != 1 {
			t.Errorf("%v, %v", entries, err)
		}
		p.spoil = nil
		// Once more changes nothing.
		was := u.left()
		if out, err := u.run(p.script(), "UNDERLANE_VERSION="+strings.TrimPrefix(u.installed(), "underlane-")); err != nil || !slices.Equal(was, u.left()) {
			t.Errorf("once more: %v, %v, then %v\n%s", err, was, u.left(), out)
		}
	})
}

// A home may have any name. One where nothing can be written is said.
func TestInstallHomes(t *testing.T) {
	p := publish(t)
	for _, shell := range shells {
		for _, name := range []string{"with two  spaces", `back\slash`, `it's "$HOME"`, "-n", "*"} {
			u := newUser(t, shell, "curl", "openssl")
			u.home = filepath.Join(u.home, name)
			if err := os.Mkdir(u.home, 0o755); err != nil {
				t.Fatal(err)
			}
			if out, err := u.run(p.script()); err != nil || u.installed() != "underlane-v0.2.0" {
				t.Errorf("%s, %s: %v\n%s", shell, name, err, out)
			}
		}
		u := newUser(t, shell, "curl", "openssl")
		if out, err := u.run(p.script(), "UNDERLANE_HOME=here"); err != nil || !strings.Contains(out, `export PATH="`+u.home+`/here/bin:`) {
			t.Errorf("%s: a relative name: %v\n%s", shell, err, out)
		}
		for env, want := range map[string]string{
			"HOME=/proc":             "Cannot make the directory /proc/.underlane/bin",
			"HOME=":                  "HOME is not set",
			"UNDERLANE_TIMEOUT=1h":   "UNDERLANE_TIMEOUT is 1h",
			"UNDERLANE_TIMEOUT=0":    "UNDERLANE_TIMEOUT is 0",
			"UNDERLANE_VERSION=v1;1": "is no version",
		} {
			u := newUser(t, shell, "curl", "openssl")
			if out, err := u.run(p.script(), env); err == nil || !strings.Contains(out, want) {
				t.Errorf("%s, %s: %v, want %q\n%s", shell, env, err, want, out)
			}
			u.empty(env)
		}
		u = newUser(t, shell, "curl", "openssl")
		if err := os.MkdirAll(filepath.Join(u.home, ".underlane/bin/underlane"), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := u.run(p.script()); err == nil || !strings.Contains(out, "is a directory") || len(u.left()) != 0 {
			t.Errorf("%s: a directory where the link belongs: %v\n%s", shell, err, out)
		}
	}
}

// The page says which other underlane would be called.
func TestInstallPath(t *testing.T) {
	p := publish(t)
	u := newUser(t, []string{"dash"}, "curl", "openssl")
	other := filepath.Join(u.bin, "underlane")
	if err := os.WriteFile(other, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := "PATH=" + u.bin + ":" + u.home + "/.underlane/bin"
	if out, err := u.run(p.script(), path); err != nil || !strings.Contains(out, "in your PATH "+other+" comes before it") {
		t.Errorf("%v\n%s", err, out)
	}
	u.without("underlane")
	if out, err := u.run(p.script(), path); err != nil || strings.Contains(out, "PATH") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Any of three programs tells a checksum. What is missing is said.
func TestInstallTools(t *testing.T) {
	p := publish(t)
	for _, shell := range shells {
		if shell[0] == "busybox" { // has all of them itself
			continue
		}
		for _, sum := range []string{"shasum", "openssl"} {
			u := newUser(t, shell, "curl", "openssl", "shasum")
			u.without("sha256sum")
			if sum == "openssl" {
				u.without("shasum")
			}
			if out, err := u.run(p.script()); err != nil || u.installed() != "underlane-v0.2.0" {
				t.Errorf("%s, %s: %v\n%s", shell, sum, err, out)
			}
			p.spoil = spoiled(runtime.GOARCH, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(program("v6.6.6")) })
			if out, err := u.run(p.script(), "UNDERLANE_VERSION=v0.1.0"); err == nil || !strings.Contains(out, "The checksum of underlane-v0.1.0") {
				t.Errorf("%s, %s, another program: %v\n%s", shell, sum, err, out)
			}
			p.spoil = nil
		}
		u := newUser(t, shell, "curl")
		u.without("sha256sum")
		if out, err := u.run(p.script()); err == nil || !strings.Contains(out, "Neither sha256sum nor shasum nor openssl is here") {
			t.Errorf("%s, no checksums: %v\n%s", shell, err, out)
		}
		u.empty("no checksums")
		u = newUser(t, shell, "openssl")
		if out, err := u.run(p.script()); err == nil || !strings.Contains(out, "Neither curl nor wget is here") {
			t.Errorf("%s, nothing to download with: %v\n%s", shell, err, out)
		}
		u.empty("nothing to download with")
	}
}

// Files may be behind a redirection and behind a proxy; and larger than any disk.
func TestInstallServers(t *testing.T) {
	each(t, func(t *testing.T, shell []string, get string) {
		p := publish(t)
		p.spoil = func(w http.ResponseWriter, r *http.Request) bool {
			path, moved := strings.CutPrefix(r.URL.Path, "/moved")
			if moved {
				http.Redirect(w, r, path, http.StatusFound)
			}
			return moved
		}
		u := newUser(t, shell, get, "openssl")
		if out, err := u.run(p.script(), "UNDERLANE_BASE_URL="+p.url+"/moved/"); err != nil || u.installed() != "underlane-v0.2.0" {
			t.Errorf("redirected: %v\n%s", err, out)
		}
		// The proxy gets what is for a name that does not exist.
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Host != "releases.underlane.example" {
				http.Error(w, r.URL.String(), http.StatusBadGateway)
				return
			}
			p.handler.ServeHTTP(w, r)
		}))
		defer proxy.Close()
		u = newUser(t, shell, get, "openssl")
		if out, err := u.run(p.script(), "UNDERLANE_BASE_URL=http://releases.underlane.example", "http_proxy="+proxy.URL); err != nil || u.installed() != "underlane-v0.2.0" {
			t.Errorf("by a proxy: %v\n%s", err, out)
		}
		p.spoil = spoiled("stable.json", func(w http.ResponseWriter, _ *http.Request) {
			for range 1 << 10 { // MiB, without a length that would tell it
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		})
		u = newUser(t, shell, get, "openssl")
		if out, err := u.run(p.script()); err == nil || !strings.Contains(out, "is larger than any release has it") {
			t.Errorf("1 GiB: %v\n%s", err, out)
		}
		u.empty("1 GiB")
	})
}

// Where no signature can be checked, HTTPS can stand for it: with a certificate that is
// checked, and without a redirection to where there is none.
func TestInstallHTTPS(t *testing.T) {
	for _, shell := range shells {
		for _, get := range []string{"curl", "wget"} {
			if get == "wget" && shell[0] == "busybox" { // its own, which checks no certificates, comes first
				continue
			}
			t.Run(strings.Join(shell, "-")+"/"+get, func(t *testing.T) {
				t.Parallel()
				p := publish(t)
				s := httptest.NewUnstartedServer(p.handler)
				s.Config.ErrorLog = nil
				s.StartTLS()
				defer s.Close()
				base := "UNDERLANE_BASE_URL=" + s.URL
				u := newUser(t, shell, get)
				if out, err := u.run(p.script(), base); err == nil || !strings.Contains(out, "Cannot download "+s.URL) {
					t.Errorf("a certificate of somebody: %v\n%s", err, out)
				}
				u.empty("a certificate of somebody")
				trust(t, u, s)
				out, err := u.run(p.script(), base)
				if err != nil || u.installed() != "underlane-v0.2.0" || !strings.Contains(out, "checked: its checksum and HTTPS, and not the signature") {
					t.Errorf("%v\n%s", err, out)
				}
				u = newUser(t, shell, get)
				trust(t, u, s)
				if out, err := u.run(p.script(), base, "UNDERLANE_SIGNATURE=required"); err == nil || !strings.Contains(out, "cannot be checked here") {
					t.Errorf("required: %v\n%s", err, out)
				}
				p.spoil = func(w http.ResponseWriter, r *http.Request) bool {
					if r.TLS != nil {
						http.Redirect(w, r, p.url+r.URL.Path, http.StatusFound)
					}
					return r.TLS != nil
				}
				u = newUser(t, shell, get)
				trust(t, u, s)
				if out, err := u.run(p.script(), base); err == nil || !strings.Contains(out, "Cannot download "+s.URL) {
					t.Errorf("redirected to plain HTTP: %v\n%s", err, out)
				}
				u.empty("redirected to plain HTTP")
				// With openssl it does not matter where the files come from.
				u = newUser(t, shell, get, "openssl")
				trust(t, u, s)
				if out, err := u.run(p.script(), base); err != nil || u.installed() != "underlane-v0.2.0" {
					t.Errorf("redirected to plain HTTP, with openssl: %v\n%s", err, out)
				}
			})
		}
	}
}

// trust makes curl and wget of the user take the server's certificate.
func trust(t *testing.T, u *user, s *httptest.Server) {
	t.Helper()
	dir := t.TempDir()
	ca, rc := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "wgetrc")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	for path, text := range map[string][]byte{ca: text, rc: []byte("ca_certificate = " + ca + "\n")} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u.env = append(u.env, "CURL_CA_BUNDLE="+ca, "WGETRC="+rc)
}

// spoiled answers requests for files with the suffix.
func spoiled(suffix string, do http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, suffix) {
			return false
		}
		do(w, r)
		return true
	}
}
