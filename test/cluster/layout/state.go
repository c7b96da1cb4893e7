package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const specFile = "cluster.json"

// Save stores the spec with the cluster's state.
func (c Cluster) Save() error {
	if err := os.MkdirAll(c.Dir(), 0o755); err != nil {
		return err
	}
	text, _ := json.Marshal(c.Spec) // cannot fail for plain values
	return os.WriteFile(c.File(specFile), append(text, '\n'), 0o644)
}

// Load reads the spec of the cluster called name below base. The error wraps
// os.ErrNotExist if there is no such cluster.
func Load(base, name string) (Spec, error) {
	path := filepath.Join(base, name, specFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return Spec{}, err
	}
	var s Spec
	if err := json.Unmarshal(text, &s); err != nil {
		return Spec{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, s.Validate()
}

// Remove removes the cluster's directory. It refuses a directory that is not a
// cluster's. It removes the spec last, so that an interrupted removal can be repeated.
// It is no error if there is no directory.
func (c Cluster) Remove() error {
	entries, err := os.ReadDir(c.Dir())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.File(specFile)); err != nil && len(entries) > 0 {
		return fmt.Errorf("%s is not a cluster's directory: %w", c.Dir(), err)
	}
	for _, e := range entries {
		if e.Name() != specFile {
			err = errors.Join(err, os.RemoveAll(c.File(e.Name())))
		}
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(c.Dir())
}
