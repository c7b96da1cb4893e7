package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	oci "github.com/underlane/underlane/test/cluster/image"
	"github.com/underlane/underlane/test/released"
)

// thisVersion is what the tests call this source tree: the minor version after the last
// release. beyond is the one after that, to which no upgrade from the last release leads.
const thisVersion, beyond = "v0.2.0", "v0.3.0"

// release is a release of which the nodes have the images.
type release struct {
	version string
	tag     string // of the images
	program string // path of the command line
	chart   string // directory of the chart, or the address of its repository
}

// lastRelease builds the release before from its commit.
func lastRelease(t *testing.T) release {
	t.Helper()
	last := released.Last()
	dir, err := last.Build(root, "agent", "controller", "underlane")
	if err != nil {
		t.Fatal(err)
	}
	load := []string{"load"}
	for name, user := range map[string]string{"agent": "", "controller": "65532:65532"} {
		tar := filepath.Join(t.TempDir(), name+"-"+last.Version+".tar")
		if _, err := oci.Write(tar, oci.Spec{
			Ref: registry + name + ":" + last.Tag, User: user,
			Files: map[string]string{name: filepath.Join(dir, name)}, Entrypoint: []string{"/" + name},
		}); err != nil {
			t.Fatal(err)
		}
		load = append(load, tar)
	}
	mustTry(t, load...)
	source := t.TempDir()
	local(t, nil, "sh", "-c", `git archive "$1" daemonset/chart | tar -xf - -C "$2"`, "-", last.Commit, source)
	return release{last.Version, last.Tag, filepath.Join(dir, "underlane"), filepath.Join(source, "daemonset/chart/underlane")}
}

// registry is where the chart's images are.
const registry = "ghcr.io/underlane/"

// thisRelease makes a release of this source tree, has a server offer its files, and takes
// from there what a user takes: the command line by the script, images as they are.
func thisRelease(t *testing.T) release {
	t.Helper()
	dist := filepath.Join(t.TempDir(), "dist")
	server := httptest.NewServer(http.FileServer(http.Dir(dist)))
	t.Cleanup(server.Close)
	revision := local(t, nil, "git", "rev-parse", "HEAD")
	local(t, nil, "go", "run", "./internal/tools/release", "-version", thisVersion, "-channel", "stable", "-key", newKey(t),
		"-out", dist, "-base-url", server.URL, "-platforms", "linux/"+runtime.GOARCH,
		"-revision", revision, "-date", local(t, nil, "git", "log", "-1", "--format=%cI"))
	home := t.TempDir()
	said := local(t, []string{"HOME=" + home}, "sh", "-c", `curl -fsSL "$1/install.sh" | sh`, "-", server.URL)
	if !strings.Contains(said, "checked: its checksum and its signature") {
		t.Errorf("install.sh says:\n%s", said)
	}
	program := filepath.Join(home, ".underlane/bin/underlane")
	if out := local(t, nil, program, "install", "--ignore-cluster", "--channel", "stable"); !strings.Contains(out, registry+"agent:"+thisVersion+"\n") {
		t.Errorf("the command line does not install the images of %s", thisVersion)
	}
	mustTry(t, "load", filepath.Join(dist, thisVersion, "agent-"+thisVersion+".oci.tar"),
		filepath.Join(dist, thisVersion, "controller-"+thisVersion+".oci.tar"))
	return release{thisVersion, thisVersion, program, server.URL + "/charts"}
}

// helm is the program, with a home of its own.
type helm struct {
	program string
	env     []string
}

func newHelm(t *testing.T) helm {
	t.Helper()
	home := t.TempDir()
	return helm{
		filepath.Join(strings.TrimSpace(mustTry(t, "build", "helm")), "helm"),
		[]string{"HELM_CACHE_HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_DATA_HOME=" + home},
	}
}

// pull downloads the chart of this version from the address of a repository, as `helm
// install --repo` does. (That would have to reach this machine from the cluster's network.)
func (h helm) pull(t *testing.T, repository string) (path string) {
	t.Helper()
	dir, version := t.TempDir(), strings.TrimPrefix(thisVersion, "v")
	local(t, h.env, h.program, "pull", "underlane", "--repo", repository, "--version", version, "-d", dir)
	return filepath.Join(dir, "underlane-"+version+".tgz")
}

func (h helm) run(t *testing.T, args ...string) {
	t.Helper()
	cmd := command(t.Context(), append([]string{"exec", "--", h.program}, args...)...)
	cmd.Env = append(os.Environ(), h.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// newKey writes a key that signs a release.
func newKey(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "release.key")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// local runs a command on this machine, in the source tree, and returns its standard output.
func local(t *testing.T, env []string, argv ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", argv, err, out, errs.String())
	}
	return strings.TrimSpace(string(out))
}

func mustTry(t *testing.T, args ...string) string {
	t.Helper()
	out, err := try(t.Context(), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try runs the release's command line as a user does. An upgrade may take some minutes.
func (r release) try(t *testing.T, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := command(ctx, append([]string{"exec", "--", r.program}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, errs.String())
	}
	return string(out), err
}

func (r release) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := r.try(t, args...)
	if err != nil {
		t.Fatalf("underlane %s of %s: %v", strings.Join(args, " "), r.version, err)
	}
	return out
}

// controllers applies what an upgrade to the release prints, but for the agents: an upgrade
// that has come to its first half.
func (r release) controllers(t *testing.T) {
	t.Helper()
	var list struct {
		APIVersion string           `json:"apiVersion"`
		Kind       string           `json:"kind"`
		Items      []map[string]any `json:"items"`
	}
	if err := json.Unmarshal([]byte(r.run(t, "upgrade", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	all := list.Items
	list.Items = nil
	for _, o := range all {
		if o["kind"] != "DaemonSet" {
			list.Items = append(list.Items, o)
		}
	}
	if len(list.Items) != len(all)-1 {
		t.Fatalf("got %d objects without the agents of %d, want one less", len(list.Items), len(all))
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := try(t.Context(), string(text), "kubectl", "--", "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	ready(t, system, "deploy/underlane-controller")
}

// running waits until the pods have these versions, and no others are there.
func running(t *testing.T, controllers, agents release) {
	t.Helper()
	for name, of := range map[string]release{"controller": controllers, "agent": agents} {
		want := registry + name + ":" + of.tag
		eventually(t, 2*patience, func() error {
			out, err := tryKubectl(t, "get", "pods", "-n", system, "-l", "app.kubernetes.io/name=underlane-"+name,
				"-o", "jsonpath={.items[*].spec.containers[0].image}")
			if err == nil && strings.TrimSpace(out) != want+" "+want {
				err = fmt.Errorf("got the pods %s, want two of %s", out, want)
			}
			return err
		})
	}
}
