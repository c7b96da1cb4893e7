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

// sbom writes NAME.cdx.json, the CycloneDX list of the modules that a program of cmd/ is made
// of, from what the linker has recorded in it, and of the packages in the dashboard's bundle.
func (o *options) sbom(ctx context.Context, program, command, name string) error {
	repo, err := filepath.Abs(o.Repo)
	if err != nil {
		return err
	}
	out, err := filepath.Abs(filepath.Join(o.dir(), name+".cdx.json"))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", "cyclonedx-gomod", "bin", "-json", "-noserial", "-notimestamp",
		"-std", "-version", o.Version, "-output", out, program)
	cmd.Dir = filepath.Join(repo, "internal/tools/sbom")
	cmd.Env = o.env
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("SBOM of %s: %w: %s", name, err, text)
	}
	text, err := os.ReadFile(out)
	if err == nil {
		var packages []npmPackage
		if packages, err = o.bundled(ctx, command); err == nil {
			text, err = finish(text, packages)
		}
	}
	if err != nil {
		return fmt.Errorf("SBOM of %s: %w", name, err)
	}
	return os.WriteFile(out, text, 0o644)
}

// finish removes from an SBOM the checksums of the tool that wrote it, which differ by the
// machine that the tool was built for, and adds packages.
func finish(text []byte, packages []npmPackage) ([]byte, error) {
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
	components, ok := bom["components"].([]any)
	if !ok {
		return nil, errors.New("it has no components")
	}
	for _, p := range packages {
		components = append(components, map[string]any{
			"bom-ref": p.url(), "type": "library", "name": p.name, "version": p.version, "scope": "required", "purl": p.url(),
		})
	}
	bom["components"] = components
	text, err := json.MarshalIndent(bom, "", "  ")
	return append(text, '\n'), err
}

// npmPackage is a package of npm that is a part of the dashboard's bundle.
type npmPackage struct{ name, version string }

// url is the package's URL (https://github.com/package-url/purl-spec), where an "@" of a name
// is %40.
func (p npmPackage) url() string {
	return "pkg:npm/" + strings.Replace(p.name, "@", "%40", 1) + "@" + p.version
}

// bundled returns the packages that are in a program because it has the dashboard: those whose
// licences the bundle has.
func (o *options) bundled(ctx context.Context, command string) ([]npmPackage, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-tags=grpcnotrace", "./cmd/"+command)
	cmd.Dir, cmd.Env, cmd.Stderr = o.Repo, append(slices.Clone(o.env), "CGO_ENABLED=0"), o.Progress
	imports, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("what %s imports: %w", command, err)
	}
	if !slices.Contains(strings.Fields(string(imports)), "github.com/underlane/underlane/pkg/dashboard") {
		return nil, nil
	}
	text, err := os.ReadFile(filepath.Join(o.Repo, "pkg/dashboard/dist/assets/licences.txt"))
	if err != nil {
		return nil, err
	}
	return packagesOf(string(text))
}

// packagesOf reads the licences of the dashboard's bundle, as web/vite.config.ts writes them: of
// each package its name and version, an empty line, and its licence; and "----" between two.
func packagesOf(licences string) (list []npmPackage, err error) {
	for _, part := range strings.Split(licences, "\n----\n\n") {
		head, _, _ := strings.Cut(part, "\n\n")
		name, version, ok := strings.Cut(head, " ")
		if !ok || strings.ContainsAny(version, " \n") {
			return nil, fmt.Errorf("the licences of the dashboard: %.60q is no package and its version", head)
		}
		list = append(list, npmPackage{name, version})
	}
	return list, nil
}
