package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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

// commandLines builds `underlane` for each platform.
func (o *options) commandLines(ctx context.Context) error {
	for _, p := range o.selected() {
		name := "underlane-" + o.Version + "-" + strings.ReplaceAll(p, "/", "-")
		if strings.HasPrefix(p, "windows/") {
			name += ".exe"
		}
		if err := o.build(ctx, "./cmd/underlane", p, filepath.Join(o.dir(), name)); err != nil {
			return err
		}
	}
	return nil
}

// build compiles a program to the file path, and writes its SBOM into the version's
// directory.
func (o *options) build(ctx context.Context, pkg, platform, path string) error {
	fmt.Fprintf(o.Progress, "%s for %s\n", pkg, platform)
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	goos, goarch, _ := strings.Cut(platform, "/")
	const of = " -X github.com/underlane/underlane/internal/version."
	flags := "-s -w" + of + "Version=" + o.Version + of + "Channel=" + o.Channel +
		of + "PublicKey=" + o.encodedKey() + of + "BaseURL=" + o.BaseURL
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", flags, "-o", path, pkg)
	cmd.Dir, cmd.Stdout, cmd.Stderr = o.Repo, o.Progress, o.Progress
	// What may be set where a developer works, and would change the bytes.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch, "GOFLAGS=", "GOEXPERIMENT=",
		"GOAMD64=v1", "GOARM64=v8.0", "GOWORK=off", "GOFIPS140=off")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s for %s: %w", pkg, platform, err)
	}
	return o.sbom(ctx, path)
}

// sbom writes the CycloneDX list of the modules that the program is made of, from what
// the linker has recorded in it.
func (o *options) sbom(ctx context.Context, program string) error {
	repo, err := filepath.Abs(o.Repo)
	if err != nil {
		return err
	}
	out := filepath.Join(o.dir(), filepath.Base(program)+".cdx.json")
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", "cyclonedx-gomod", "bin", "-json", "-noserial", "-notimestamp",
		"-std", "-version", o.Version, "-output", out, program)
	cmd.Dir = filepath.Join(repo, "internal/tools/sbom")
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("SBOM of %s: %w: %s", filepath.Base(program), err, text)
	}
	text, err := os.ReadFile(out)
	if err == nil {
		text, err = withoutToolHashes(text)
	}
	if err != nil {
		return fmt.Errorf("SBOM of %s: %w", filepath.Base(program), err)
	}
	return os.WriteFile(out, text, 0o644)
}

// withoutToolHashes removes from an SBOM the checksums of the tool that wrote it, which
// differ by the machine that the tool was built for.
func withoutToolHashes(text []byte) ([]byte, error) {
	var bom map[string]any
	if err := json.Unmarshal(text, &bom); err != nil {
		return nil, err
	}
	metadata, _ := bom["metadata"].(map[string]any)
	tools, ok := metadata["tools"].([]any)
	if !ok {
		return nil, errors.New("it does not name the tool that wrote it where version 1.10.0 does")
	}
	for _, t := range tools {
		if t, ok := t.(map[string]any); ok {
			delete(t, "hashes")
		}
	}
	text, err := json.MarshalIndent(bom, "", "  ")
	return append(text, '\n'), err
}
