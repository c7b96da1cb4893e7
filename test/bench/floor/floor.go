// Package floor builds the forwarder in C that the proxies are compared with.
package floor

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed src/floor.c
var source []byte

// Build compiles the forwarder into dir and returns its path. It needs gcc and
// OpenSSL's headers.
func Build(dir string) (string, error) {
	src, bin := filepath.Join(dir, "floor.c"), filepath.Join(dir, "floor")
	if err := os.WriteFile(src, source, 0o644); err != nil {
		return "", fmt.Errorf("build the floor: %w", err)
	}
	out, err := exec.Command("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", bin, src, "-lssl", "-lcrypto").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the floor (gcc and libssl-dev are needed: scripts/deps.sh bench): %w\n%s", err, out)
	}
	return bin, nil
}
