// Package component builds the programs of a cluster. Each comes from a separate
// module below components/ and is built once per version. The results are kept
// outside the tree.
package component

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
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
	Changes []Change // to modules that it needs
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

// Traefik is an ingress controller. The ACME client in it comes without its list of 200 DNS
// providers: these need a third of all packages, and not every module proxy has all of them.
var Traefik = Component{
	Name: "traefik", Pattern: "tool", Module: "github.com/traefik/traefik/v3",
	Flags: func(v string) string { return " -X github.com/traefik/traefik/v3/pkg/version.Version=" + v },
	Changes: []Change{
		{Module: "github.com/go-acme/lego/v5", File: "providers/dns/zz_gen_dns_providers.go", With: "lego/dns.go"},
	},
}

// Helm installs charts. Tests of upgrades use it.
var Helm = Component{
	Name: "helm", Pattern: "tool", Module: "helm.sh/helm/v4",
	Flags: func(v string) string { return " -X helm.sh/helm/v4/internal/version.version=" + v },
}

// All lists the components that every cluster needs.
var All = []Component{Kubernetes, Containerd, CoreDNS}

// Asked lists the components that are built when they are asked for.
var Asked = []Component{Prometheus, Traefik, Helm}

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
	args := []string{
		"build", "-buildvcs=false", "-trimpath", "-gcflags=all=-dwarf=false", "-tags=" + c.Tags,
		"-ldflags=-s -w" + c.Flags(version), "-o", tmp + "/",
	}
	if len(c.Changes) > 0 {
		work, err := os.MkdirTemp(cache, "changing-"+c.Name+"-")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(work)
		modfile, err := c.changed(src, work)
		if err != nil {
			return "", fmt.Errorf("component %s: %w", c.Name, err)
		}
		args = append(args, "-modfile="+modfile)
	}
	cmd := exec.Command("go", append(args, c.Pattern)...)
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
	sum := sha256.New()
	err = filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(text))
		sum.Write(text)
		if name == "go.mod" {
			version = required(string(text), c.Module)
		}
		return nil
	})
	if err != nil {
		return "", "", fmt.Errorf("component %s: %w", c.Name, err)
	}
	if version == "" {
		return "", "", fmt.Errorf("component %s: %s does not require %s", c.Name, filepath.Join(src, "go.mod"), c.Module)
	}
	fmt.Fprint(sum, c.Pattern, c.Tags, c.Flags(version))
	for _, change := range c.Changes {
		fmt.Fprint(sum, change)
	}
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
