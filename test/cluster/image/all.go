package image

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
)

const (
	goarch = runtime.GOARCH
	// Registry is the prefix of all image names. There is no such registry: images are
	// imported into the nodes.
	Registry = "registry.underlane.test/"
)

// Source is an image and its commands. Each command is in the root of the image, with
// the last element of its package's path as its name.
type Source struct {
	Name       string
	Module     string   // directory in the source tree
	Packages   []string // of that module; the first is the entrypoint
	User       string
	Cluster    bool   // needed by the cluster itself
	Tests      bool   // build the tests of the only package, not its command
	Asked      bool   // built only if it is named
	Executable string // instead of Packages: a program that was built elsewhere
}

// Sources has the images that are built from the source tree.
var Sources = []Source{
	{Name: "pause", Module: "test/cluster", Packages: []string{"./cmd/pause"}, User: "65535:65535", Cluster: true},
	{Name: "agent", Packages: []string{"./cmd/agent"}},
	{Name: "controller", Packages: []string{"./cmd/controller"}, User: "65532:65532"},
	{Name: "emojivote", Packages: []string{"./test/demo/cmd/emojivote", "./test/demo/cmd/democheck"}, User: "65532:65532"},
	{Name: "labtest", Packages: []string{"./test/lab/labtest"}},
	{Name: "echo", Module: "test/conformance", Packages: []string{"./echo/server", "./echo/client"}, User: "65532:65532", Asked: true},
	{Name: "echo-basic", Module: "test/conformance", Packages: []string{"sigs.k8s.io/gateway-api/conformance/echo-basic"}, User: "65532:65532", Asked: true},
	{Name: "conformance", Module: "test/conformance", Packages: []string{"."}, Tests: true, User: "65532:65532", Asked: true},
}

// Components has the images of programs that package component builds under the same name.
// Their Executable is to be set.
var Components = []Source{
	{Name: "coredns", Cluster: true},
	{Name: "prometheus", User: "65534:65534", Asked: true},
	{Name: "traefik", User: "65534:65534", Asked: true},
}

// Builder builds images.
type Builder struct {
	Repo     string // the source tree
	Out      string // directory of the tars
	Tag      string
	Version  string // version of our programs
	Progress io.Writer
}

// Build builds the image's programs and its tar, and returns the tar's path. It neither
// links nor writes again what has not changed.
func (b Builder) Build(s Source) (string, error) {
	spec := Spec{Ref: Registry + s.Name + ":" + b.Tag, Files: map[string]string{}, User: s.User}
	bin := filepath.Join(b.Out, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	for _, pkg := range s.Packages {
		name := path.Base(pkg)
		if s.Tests {
			name = s.Name
		}
		spec.Files[name] = filepath.Join(bin, name)
		spec.Entrypoint = append(spec.Entrypoint, "/"+name)
	}
	if s.Executable != "" {
		spec.Files[s.Name] = s.Executable
		spec.Entrypoint = []string{"/" + s.Name}
	} else if err := b.compile(s, bin); err != nil {
		return "", err
	}
	spec.Entrypoint = spec.Entrypoint[:1]
	tar := filepath.Join(b.Out, s.Name+".tar")
	if b.Tag != "dev" {
		tar = filepath.Join(b.Out, s.Name+"-"+b.Tag+".tar")
	}
	_, err := Write(tar, spec)
	return tar, err
}

func (b Builder) compile(s Source, bin string) error {
	args := []string{"build"}
	out := bin + "/"
	if s.Tests {
		args, out = []string{"test", "-c"}, filepath.Join(bin, s.Name)
	}
	args = append(args, "-buildvcs=false", "-trimpath",
		"-ldflags=-s -w -X github.com/underlane/underlane/internal/version.Version="+b.Version, "-o", out)
	cmd := exec.Command("go", append(args, s.Packages...)...)
	cmd.Dir = filepath.Join(b.Repo, s.Module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	cmd.Stdout, cmd.Stderr = b.Progress, b.Progress
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s for image %s: %w", s.Packages, s.Name, err)
	}
	return nil
}
