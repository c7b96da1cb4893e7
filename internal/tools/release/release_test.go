package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"debug/buildinfo"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
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
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
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

// sameBytes makes a release in two copies of the tree, and returns its files. The second
// is made with the environment more.
func sameBytes(t *testing.T, platforms string, more map[string]string) map[string][]byte {
	t.Helper()
	was, channel := version.Version, version.Channel
	t.Cleanup(func() { version.Version, version.Channel = was, channel }) // run sets them
	var made []map[string][]byte
	for i := range 2 {
		o := testOptions(t, copyTree(t))
		o.Platforms = platforms
		if i == 1 {
			for name, value := range more {
				t.Setenv(name, value)
			}
		}
		if err := o.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		made = append(made, readTree(t, o.Out))
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
	files := sameBytes(t, platform, map[string]string{"TZ": "Asia/Tokyo", "GOAMD64": "v3", "GOFLAGS": "-tags=nocluster", "CGO_ENABLED": "1"})
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
	t.Run("sbom", func(t *testing.T) { checkSBOM(t, files) })
	t.Run("chart", func(t *testing.T) { checkChart(t, files) })
	t.Run("images", func(t *testing.T) {
		checkImage(t, files["v0.2.0/agent-v0.2.0.oci.tar"], "agent", "0:0", runtime.GOARCH)
		checkImage(t, files["v0.2.0/controller-v0.2.0.oci.tar"], "controller", "65532:65532", runtime.GOARCH)
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
	key := (&options{public: ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)}).encodedKey()
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
}

func checkSBOM(t *testing.T, files map[string][]byte) {
	for program, want := range map[string]string{"underlane": "helm.sh/helm/v4", "agent": "github.com/cilium/ebpf", "controller": "k8s.io/client-go"} {
		var bom struct {
			BOMFormat  string `json:"bomFormat"`
			Components []struct{ Name, Version string }
		}
		if err := json.Unmarshal(files["v0.2.0/"+program+"-v0.2.0-linux-"+runtime.GOARCH+".cdx.json"], &bom); err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, c := range bom.Components {
			found[c.Name] = c.Version != ""
		}
		if bom.BOMFormat != "CycloneDX" || !found[want] || !found["std"] {
			t.Errorf("%s: %s, %d components, %s: %v, std: %v", program, bom.BOMFormat, len(bom.Components), want, found[want], found["std"])
		}
		if program == "agent" && found["helm.sh/helm/v4"] {
			t.Error("the agent's list has what it is not made of")
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

// checkImage follows an image layout from its index to the program.
func checkImage(t *testing.T, data []byte, name, user string, arches ...string) {
	t.Helper()
	files := untar(t, data)
	blob := func(d descriptor, into any) []byte {
		text := files["blobs/"+strings.ReplaceAll(d.Digest, ":", "/")]
		if digest(text) != d.Digest || len(text) != d.Size {
			t.Fatalf("%s: %s of %d bytes is %s of %d bytes", name, d.Digest, d.Size, digest(text), len(text))
		}
		if into != nil {
			if err := json.Unmarshal(text, into); err != nil {
				t.Fatal(err)
			}
		}
		return text
	}
	var top, index struct{ Manifests []descriptor }
	if err := json.Unmarshal(files["index.json"], &top); err != nil || len(top.Manifests) != 1 {
		t.Fatalf("%s: %v", files["index.json"], err)
	}
	if got := top.Manifests[0].Annotations["io.containerd.image.name"]; got != "ghcr.io/underlane/"+name+":v0.2.0" {
		t.Errorf("it is called %s", got)
	}
	blob(top.Manifests[0], &index)
	var got []string
	for _, m := range index.Manifests {
		got = append(got, m.Platform["architecture"])
		var manifest struct {
			Config descriptor
			Layers []descriptor
		}
		blob(m, &manifest)
		var config struct {
			Created, Architecture string
			Config                struct {
				User       string
				Entrypoint []string
				Labels     map[string]string
			}
			RootFS struct {
				DiffIDs []string `json:"diff_ids"`
			}
		}
		blob(manifest.Config, &config)
		if config.Architecture != m.Platform["architecture"] || config.Config.User != user || config.Created != "2026-11-30T00:02:03Z" ||
			config.Config.Labels["org.opencontainers.image.version"] != "v0.2.0" {
			t.Errorf("%+v", config)
		}
		z, err := gzip.NewReader(bytes.NewReader(blob(manifest.Layers[0], nil)))
		if err != nil {
			t.Fatal(err)
		}
		layer, err := io.ReadAll(z)
		if err != nil || digest(layer) != config.RootFS.DiffIDs[0] {
			t.Fatalf("diff_id %s, %v", config.RootFS.DiffIDs, err)
		}
		inside := untar(t, layer)
		program := inside[strings.TrimPrefix(config.Config.Entrypoint[0], "/")]
		checkFormat(t, name, "linux/"+config.Architecture, program)
		asks := map[string]string{"agent": "--version", "controller": "version"}[name]
		if got := strings.TrimPrefix(output(t, config.Architecture, program, asks), "agent version "); got != "v0.2.0\n" {
			t.Errorf("the %s in the image for %s says that it is %q", name, config.Architecture, got)
		}
		info, err := buildinfo.Read(bytes.NewReader(program))
		if err != nil || len(inside) != 4 {
			t.Fatalf("%d files in the image: %v", len(inside), err)
		}
		if !slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "GOARCH" && s.Value == config.Architecture }) {
			t.Errorf("the program in the image for %s is for another processor", config.Architecture)
		}
	}
	if d := cmp.Diff(arches, got); d != "" {
		t.Error(d)
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
	} {
		o := testOptions(t, root)
		change(o)
		if err := o.check(t.Context()); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	// A directory with something else is not emptied.
	o := testOptions(t, root)
	if err := os.MkdirAll(filepath.Join(o.Out, "photos"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := o.run(context.Background()); err == nil {
		t.Error("a directory of other things is used")
	}
	if _, err := os.Stat(filepath.Join(o.Out, "photos")); err != nil {
		t.Error(err)
	}
}
