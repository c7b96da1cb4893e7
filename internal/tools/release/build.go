package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// platforms are those of the command line. Images are made for those of Linux.
var platforms = []string{
	"darwin/amd64", "darwin/arm64", "linux/amd64", "linux/arm64", "windows/amd64", "windows/arm64",
}

func isPlatform(p string) bool { return slices.Contains(platforms, p) }

// selected are the platforms that are made.
func (o *options) selected() []string {
	if len(o.only) == 0 {
		return platforms
	}
	return o.only
}

// programs builds all that is compiled: `underlane` for each platform, which goes into the
// version's directory, and for those of Linux the programs of the images, which stay in
// o.work. What is for one platform comes from one `go build`, which compiles each package
// once. Two platforms are built at a time: one compiles while the other links, which keeps
// only one processor busy.
func (o *options) programs(ctx context.Context) error {
	var err error
	if o.env, err = environment(ctx, o.Repo); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for _, p := range o.selected() {
		g.Go(func() error { return o.build(ctx, p) })
	}
	return g.Wait()
}

// built is the path of a program in o.work.
func (o *options) built(program, platform string) string {
	path := filepath.Join(o.work, strings.ReplaceAll(platform, "/", "-"), program)
	if strings.HasPrefix(platform, "windows/") {
		path += ".exe"
	}
	return path
}

// build compiles what is for a platform, and writes the SBOM of each program.
func (o *options) build(ctx context.Context, platform string) error {
	began := time.Now()
	goos, goarch, _ := strings.Cut(platform, "/")
	programs := []string{"underlane"}
	if goos == "linux" {
		for _, i := range imagesOf {
			programs = append(programs, i.name)
		}
	}
	const of = " -X github.com/underlane/underlane/internal/version."
	flags := "-s -w" + of + "Version=" + o.Version + of + "Channel=" + o.Channel +
		of + "PublicKey=" + encoded(o.public) + of + "BaseURL=" + o.BaseURL
	args := []string{
		"build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-tags=grpcnotrace", "-ldflags", flags, // see Makefile
		"-o", filepath.Dir(o.built("underlane", platform)) + string(filepath.Separator),
	}
	for _, name := range programs {
		args = append(args, "./cmd/"+name)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = o.Repo, o.Progress, o.Progress
	cmd.Env = append(slices.Clone(o.env), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch, "GOAMD64=v1", "GOARM64=v8.0")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %v for %s: %w", programs, platform, err)
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() // with that of the compilers
	fmt.Fprintf(o.Progress, "%v for %s: %s, and %s of processors\n", programs, platform,
		time.Since(began).Round(time.Second), used.Round(time.Second))
	for _, name := range programs {
		path := o.built(name, platform)
		suffix := "-" + o.Version + "-" + goos + "-" + goarch + strings.TrimPrefix(filepath.Base(path), name)
		if err := o.sbom(ctx, path, name, name+suffix); err != nil {
			return err
		}
		if name != "underlane" {
			continue
		}
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(o.dir(), name+suffix), text, 0o755)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
