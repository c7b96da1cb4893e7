// Package component builds the programs of a cluster. Each comes from a separate
// module below components/ and is built once per version. The results are kept
// outside the tree.
package component

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Component is a module below components/ and the programs that it builds.
type Component struct {
	Name    string
	Pattern string // argument of `go build`
	Module  string // module whose version it has
	Tags    string // build tags; empty: none
	Flags   func(version string) string
}

// Kubernetes is etcd and all parts of Kubernetes in one binary.
var Kubernetes = Component{
	Name: "kubernetes", Pattern: ".", Module: "k8s.io/kubernetes",
	Flags: func(v string) string {
		parts := strings.Split(strings.TrimPrefix(v, "v"), ".")
		const pkg = " -X k8s.io/component-base/version."
		return pkg + "gitVersion=" + v + pkg + "gitMajor=" + parts[0] + pkg + "gitMinor=" + parts[1]
	},
}

// Containerd is containerd, its shim for runc, and ctr.
var Containerd = Component{
	Name: "containerd", Pattern: "tool", Module: "github.com/containerd/containerd/v2",
	Flags: func(v string) string {
		return " -X github.com/containerd/containerd/v2/version.Version=" + v
	},
}

// CoreDNS is the cluster's DNS server. It runs in a pod.
var CoreDNS = Component{
	Name: "coredns", Pattern: ".", Module: "github.com/coredns/coredns",
	Flags: func(v string) string { return " -X github.com/coredns/coredns/coremain.GitCommit=" + v },
}

// Prometheus is the version that the chart starts. Of the ways to find targets it has that
// of Kubernetes only: the others are most of its code.
var Prometheus = Component{
	Name: "prometheus", Pattern: "tool", Module: "github.com/prometheus/prometheus",
	Tags:  "remove_all_sd,enable_kubernetes_sd",
	Flags: func(v string) string { return " -X github.com/prometheus/common/version.Version=" + v },
}

// All lists the components that every cluster needs.
var All = []Component{Kubernetes, Containerd, CoreDNS}

// Cache returns the directory for built components: cluster below $UNDERLANE_CACHE or
// ~/.cache/underlane.
func Cache() (string, error) {
	if dir := os.Getenv("UNDERLANE_CACHE"); dir != "" {
		return filepath.Join(dir, "cluster"), nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("where to keep what was built: %w (set UNDERLANE_CACHE)", err)
	}
	return filepath.Join(dir, "underlane", "cluster"), nil
}

// Build builds the component, unless it is in the cache, and returns the directory of
// its programs. components is the directory of all sources.
func (c Component) Build(components, cache string, progress io.Writer) (string, error) {
	src := filepath.Join(components, c.Name)
	version, hash, err := c.fingerprint(src)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, c.Name+"-"+version+"-"+hash)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(cache, "building-"+c.Name+"-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	fmt.Fprintf(progress, "building %s %s (minutes the first time)...\n", c.Name, version)
	began := time.Now()
	cmd := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-gcflags=all=-dwarf=false", "-tags="+c.Tags,
		"-ldflags=-s -w"+c.Flags(version), "-o", tmp+"/", c.Pattern)
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	cmd.Stdout, cmd.Stderr = progress, progress
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s in %s: %w", c.Name, src, err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, dir); err != nil {
		if _, there := os.Stat(dir); there != nil {
			return "", err
		} // another process has built it meanwhile
	}
	fmt.Fprintf(progress, "built %s in %s\n", c.Name, time.Since(began).Round(time.Second))
	return dir, nil
}

// fingerprint returns the module's version and a hash of everything that determines
// the result of the build.
func (c Component) fingerprint(src string) (version, hash string, err error) {
	files, err := filepath.Glob(filepath.Join(src, "*.go"))
	if err != nil {
		return "", "", err
	}
	mod := filepath.Join(src, "go.mod")
	files = append(files, mod, filepath.Join(src, "go.sum"))
	slices.Sort(files)
	sum := sha256.New()
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", "", fmt.Errorf("component %s: %w", c.Name, err)
		}
		fmt.Fprintf(sum, "%s %d\n", filepath.Base(name), len(text))
		sum.Write(text)
		if name == mod {
			version = required(string(text), c.Module)
		}
	}
	if version == "" {
		return "", "", fmt.Errorf("component %s: %s does not require %s", c.Name, mod, c.Module)
	}
	fmt.Fprint(sum, c.Pattern, c.Tags, c.Flags(version))
	return version, hex.EncodeToString(sum.Sum(nil))[:10], nil
}

// required finds the version of a module in a go.mod.
func required(mod, module string) string {
	for line := range strings.Lines(mod) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) >= 2 && fields[0] == module && strings.HasPrefix(fields[1], "v") {
			return fields[1]
		}
	}
	return ""
}
