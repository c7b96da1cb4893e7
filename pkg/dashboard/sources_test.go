package dashboard

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBundleIsOfTheSources compares what the bundle says of its sources with those that
// are there. That it is what they are built to is for `make verify`, which needs Node.
func TestBundleIsOfTheSources(t *testing.T) {
	root := filepath.Join("..", "..", "web")
	files := []string{"index.html", "package-lock.json", "svelte.config.js", "vite.config.ts"}
	for _, dir := range []string{"src", "public"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && !strings.HasSuffix(path, ".test.ts") {
				name, relErr := filepath.Rel(root, path)
				files, err = append(files, filepath.ToSlash(name)), relErr
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(files)
	sum := sha256.New()
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(sum, "%s\n%d\n%s", name, len(data), data)
	}
	have, err := fs.ReadFile(dist, "dist/sources.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(string(have)), hex.EncodeToString(sum.Sum(nil)); got != want {
		t.Errorf("the bundle is of sources with the sum %s, want %s: run `make dashboard` and commit pkg/dashboard/dist", got, want)
	}
}
