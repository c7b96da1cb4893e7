package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/x509"
	"debug/buildinfo"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/cli/cluster/chart"
	"github.com/underlane/underlane/pkg/release"
)

const root = "../../.."

// testOptions are those of a release of the tree repo, made into a directory of the test.
func testOptions(t *testing.T, repo string) *options {
	t.Helper()
	return &options{
		Repo: repo, Out: filepath.Join(t.TempDir(), "dist"), Version: "v0.2.0", Channel: "stable",
		KeyFile: keyFile(t), BaseURL: exampleURL, Progress: t.Output(),
		Revision: "0123456789abcdef0123456789abcdef01234567", Date: "2026-11-30T01:02:03+01:00",
	}
}

// keyFile writes a key that is the same in each test.
func keyFile(t *testing.T) string {
	t.Helper()
	private, _ := keyFiles(t, 0)
	return private
}

// keyFiles writes one of the keys of the tests, and its public key.
func keyFiles(t *testing.T, which byte) (private, public string) {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = which
	key := ed25519.NewKeyFromSeed(seed)
	dir := t.TempDir()
	write := func(name, kind string, der []byte, err error) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err == nil {
			err = os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	private = write("key.pem", "PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(key.Public())
	return private, write("public.pem", "PUBLIC KEY", der, err)
}

// copyTree copies what git knows of the source tree, as it is now.
func copyTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `git ls-files -z -co --exclude-standard | tar --null --ignore-failed-read -T - -cf - | tar -xf - -C "$1"`, "-", dir)
	cmd.Dir, cmd.Stderr = root, t.Output()
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func readTree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// modes are those of the files and directories of a release, which a server reads as another
// user.
func modes(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	modes := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		modes[name] = info.Mode()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return modes
}

// sameBytes makes a release in two copies of the tree, and returns its files. The second
// is made deeper in the file system, where new files are for nobody else, and with the
// environment more.
func sameBytes(t *testing.T, platforms string, more map[string]string) map[string][]byte {
	t.Helper()
	was, channel := version.Version, version.Channel
	t.Cleanup(func() { version.Version, version.Channel = was, channel }) // run sets them
	var made []map[string][]byte
	var seen []map[string]fs.FileMode
	for i := range 2 {
		repo := copyTree(t)
		if i == 1 {
			deep := filepath.Join(t.TempDir(), "a", "source tree", strings.Repeat("d", 100))
			if err := errors.Join(os.MkdirAll(filepath.Dir(deep), 0o755), os.Rename(repo, deep)); err != nil {
				t.Fatal(err)
			}
			repo = deep
			for name, value := range more {
				t.Setenv(name, value)
			}
			mask := syscall.Umask(0o077)
			t.Cleanup(func() { syscall.Umask(mask) })
		}
		o := testOptions(t, repo)
		o.Platforms = platforms
		if err := o.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		made, seen = append(made, readTree(t, o.Out)), append(seen, modes(t, o.Out))
	}
	if d := cmp.Diff(seen[0], seen[1]); d != "" {
		t.Errorf("the modes differ:\n%s", d)
	}
	for name, mode := range seen[1] {
		if mode.Perm()&0o044 != 0o044 {
			t.Errorf("%s is %v, and a server may not read it", name, mode)
		}
	}
	for name, data := range made[0] {
		if !bytes.Equal(data, made[1][name]) {
			t.Errorf("%s is %d bytes, then %d bytes, and not the same", name, len(data), len(made[1][name]))
		}
	}
	if len(made[0]) != len(made[1]) {
		t.Errorf("%d files, then %d", len(made[0]), len(made[1]))
	}
	return made[0]
}

// A release of this platform: the same from two directories, and complete.
func TestRelease(t *testing.T) {
	platform := "linux/" + runtime.GOARCH
	// What `go env -w` has written counts where the environment says nothing.
	env := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(env, []byte("GOFLAGS=-tags=nocluster\nGOEXPERIMENT=jsonv2\nGOARM64=v9.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	files := sameBytes(t, platform, map[string]string{
		"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "GOAMD64": "v3", "GOENV": env, "GOFLAGS": "", "CGO_ENABLED": "1",
		"GODEBUG": "http2debug=1",
	})
	names := []string{"install.sh", "charts/index.yaml"}
	for _, name := range []string{"channels/stable.json", "channels/edge.json", "v0.2.0/SHA256SUMS"} {
		names = append(names, name, name+".sig")
	}
	for _, name := range []string{
		"underlane-v0.2.0-linux-" + runtime.GOARCH, "underlane-v0.2.0-linux-" + runtime.GOARCH + ".cdx.json",
		"agent-v0.2.0-linux-" + runtime.GOARCH + ".cdx.json", "controller-v0.2.0-linux-" + runtime.GOARCH + ".cdx.json",
		"agent-v0.2.0.oci.tar", "controller-v0.2.0.oci.tar", "underlane-0.2.0.tgz", "underlane-v0.2.0.yaml",
	} {
		names = append(names, "v0.2.0/"+name)
	}
	slices.Sort(names)
	var got []string
	for name := range files {
		got = append(got, name)
	}
	slices.Sort(got)
	if d := cmp.Diff(names, got); d != "" {
		t.Fatal(d)
	}
	t.Run("sums", func(t *testing.T) { checkSums(t, files) })
	t.Run("program", func(t *testing.T) {
		checkProgram(t, files["v0.2.0/underlane-v0.2.0-linux-"+runtime.GOARCH], string(files["v0.2.0/underlane-v0.2.0.yaml"]))
	})
	t.Run("verify", func(t *testing.T) { checkVerify(t, files["v0.2.0/underlane-v0.2.0-linux-"+runtime.GOARCH]) })
	t.Run("sbom", func(t *testing.T) {
		checkSBOM(t, "underlane", platform, files["v0.2.0/underlane-v0.2.0-linux-"+runtime.GOARCH], files)
	})
	t.Run("chart", func(t *testing.T) { checkChart(t, files) })
	t.Run("images", func(t *testing.T) {
		checkImage(t, files, "agent", "0:0", runtime.GOARCH)
		checkImage(t, files, "controller", "65532:65532", runtime.GOARCH)
	})
}

// The whole release, the second one with a cache of its own: everything is compiled anew.
func TestFullRelease(t *testing.T) {
	files := sameBytes(t, "", map[string]string{"GOCACHE": t.TempDir(), "TZ": "Asia/Tokyo"})
	checkSums(t, files)
	checkPlatforms(t, files)
}

func checkSums(t *testing.T, files map[string][]byte) {
	sums := files["v0.2.0/SHA256SUMS"]
	key := encoded(ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey))
	if err := release.Verify(key, sums, files["v0.2.0/SHA256SUMS.sig"]); err != nil {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSpace(string(sums)), "\n")
	for _, line := range lines {
		sum, name, _ := strings.Cut(line, "  ")
		if got := strings.TrimPrefix(digest(files["v0.2.0/"+name]), "sha256:"); got != sum {
			t.Errorf("%s: %s", line, got)
		}
	}
	n := 0
	for name := range files {
		if strings.HasPrefix(name, "v0.2.0/") {
			n++
		}
	}
	if len(lines) != n-2 {
		t.Errorf("%d sums of %d files", len(lines), n)
	}
}

func checkProgram(t *testing.T, program []byte, manifest string) {
	path := filepath.Join(t.TempDir(), "underlane")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), path, args...).Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return string(out)
	}
	if got := run("version", "--client", "--short"); got != "v0.2.0\n" {
		t.Errorf("it says that it is %q", got)
	}
	installs := run("install", "--ignore-cluster")
	if !strings.Contains(installs, "/controller:v0.2.0\n") {
		t.Error("it installs the images of another version")
	}
	// The manifest has the same objects, but for the record of values.
	objects := 0
	for _, o := range strings.Split(manifest, "---\n")[1:] {
		if objects++; !strings.Contains(installs, o) {
			t.Errorf("the manifest has an object that it does not install:\n%s", o)
		}
	}
	if n := len(strings.Split(installs, "---\n")) - 1; objects != n-1 {
		t.Errorf("the manifest has %d objects, and the program installs %d", objects, n)
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range info.Settings {
		if s.Key == "GOAMD64" && s.Value != "v1" || s.Key == "-tags" && s.Value != "grpcnotrace" || s.Key == "CGO_ENABLED" && s.Value != "0" {
			t.Errorf("it was built with %s=%s", s.Key, s.Value)
		}
	}
}

func checkChart(t *testing.T, files map[string][]byte) {
	z, err := gzip.NewReader(bytes.NewReader(files["v0.2.0/underlane-0.2.0.tgz"]))
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	got := untar(t, content)
	want, err := chart.Files() // run has set the version
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range want {
		if !bytes.Equal(got["underlane/"+name], data) {
			t.Errorf("%s of the chart's package is not that of the chart", name)
		}
	}
	if !strings.Contains(string(got["underlane/Chart.yaml"]), "\nversion: 0.2.0\n") {
		t.Error("the chart has another version")
	}
	for _, want := range []string{exampleURL + "/v0.2.0/underlane-0.2.0.tgz", strings.TrimPrefix(digest(files["v0.2.0/underlane-0.2.0.tgz"]), "sha256:")} {
		if !strings.Contains(string(files["charts/index.yaml"]), want) {
			t.Errorf("the index has no %s", want)
		}
	}
}

func untar(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// What makes no release is refused before anything is built.
func TestRefused(t *testing.T) {
	for what, change := range map[string]func(*options){
		"no version":       func(o *options) { o.Version = "dev" },
		"other channel":    func(o *options) { o.Channel = "edge" },
		"no key":           func(o *options) { o.KeyFile = "" },
		"no key file":      func(o *options) { o.KeyFile = "/nonexistent" },
		"a public key":     func(o *options) { o.KeyFile = os.DevNull },
		"no base URL":      func(o *options) { o.BaseURL = "underlane" },
		"a quote":          func(o *options) { o.BaseURL = "https://a/'; rm -rf" },
		"unknown platform": func(o *options) { o.Platforms = "linux/amd64,plan9/amd64" },
		"no date":          func(o *options) { o.Date = "yesterday" },
		"no previous key":  func(o *options) { o.PreviousKeyFile = o.KeyFile }, // the private one
	} {
		o := testOptions(t, root)
		change(o)
		if err := o.check(t.Context()); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	// A directory with something else is not emptied, and neither is that of the releases before.
	for _, name := range []string{"photos", "videos", "channels"} {
		o := testOptions(t, root)
		if err := os.MkdirAll(filepath.Join(o.Out, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if name == "channels" {
			o.Previous = o.Out + "/."
		}
		if err := o.run(t.Context()); err == nil {
			t.Errorf("a directory with %s is used", name)
		}
		if _, err := os.Stat(filepath.Join(o.Out, name)); err != nil {
			t.Error(err)
		}
	}
	o := testOptions(t, root)
	o.Previous = o.Out // which is not there
	if err := o.run(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("releases before that are nowhere: %v", err)
	}
}
