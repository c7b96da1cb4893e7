package component

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Change puts another file in the place of one of a module that the component needs. Files
// in Go's module cache cannot be replaced by other means than a copy of the module.
type Change struct {
	Module string
	File   string // path in the module
	With   string // path in the component's directory
}

// changed copies the module of each change into work, with the change, and returns the path
// of a go.mod, and that of its go.sum beside it, by which src is built with the copies.
func (c Component) changed(src, work string) (modfile string, err error) {
	modfile = filepath.Join(work, "go.mod")
	for _, name := range []string{"go.mod", "go.sum"} {
		if err := copyFile(filepath.Join(work, name), filepath.Join(src, name)); err != nil {
			return "", err
		}
	}
	for i, change := range c.Changes {
		dir, err := moduleDir(src, change.Module)
		if err != nil {
			return "", err
		}
		mine := filepath.Join(work, fmt.Sprint(i))
		if err := os.CopyFS(mine, os.DirFS(dir)); err != nil {
			return "", err
		}
		file := filepath.Join(mine, change.File)
		if _, err := os.Stat(file); err != nil {
			return "", fmt.Errorf("%s has no file %s to be changed: %w", change.Module, change.File, err)
		}
		if err := copyFile(file, filepath.Join(src, change.With)); err != nil {
			return "", err
		}
		if out, err := exec.Command("go", "mod", "edit", "-replace="+change.Module+"="+mine, modfile).CombinedOutput(); err != nil {
			return "", fmt.Errorf("replace %s by its copy: %w\n%s", change.Module, err, out)
		}
	}
	return modfile, nil
}

// moduleDir returns the directory of a module that the module in src requires.
func moduleDir(src, module string) (string, error) {
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	var info struct{ Dir, Error string }
	if broken := json.Unmarshal(out, &info); broken == nil && info.Error != "" {
		err = errors.New(info.Error)
	}
	if err != nil {
		return "", fmt.Errorf("module %s of %s: %w", module, src, err)
	}
	return info.Dir, nil
}

func copyFile(to, from string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o644)
}
