package watch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxManifest bounds the size of a file that is read.
const maxManifest = 16 << 20

// file is one manifest. It has the objects of its last valid content, or, as long as there was
// none, those of the documents that are valid, and its current problem, if any.
type file struct {
	path    string
	info    os.FileInfo // of the content that was read; nil before the first read
	text    []byte
	objects []object
	good    bool // there was a valid content, and objects are of the last one
	problem *Problem
}

// refresh reads the file again if its size, time or inode changed, or if force is
// set. It reports whether the objects or the problem may have changed.
func (f *file) refresh(info os.FileInfo, force bool) bool {
	same := f.info != nil && os.SameFile(f.info, info) && f.info.Size() == info.Size() && f.info.ModTime().Equal(info.ModTime())
	if same && !force {
		return false
	}
	text, err := readManifest(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return false // removed after the listing; the next scan does not list it
	}
	if err == nil && f.info != nil && f.problem == nil && bytes.Equal(text, f.text) {
		f.info = info
		return false
	}
	f.info = info
	if err != nil {
		f.problem = &Problem{File: f.path, Reason: err.Error()}
		return true
	}
	f.text = text
	if len(text) == 0 && len(f.objects) > 0 {
		// Most likely a writer has truncated the file and will fill it next.
		f.problem = &Problem{File: f.path, Reason: "the file is empty: to remove its objects, remove the file"}
		return true
	}
	objects, err := decode(text)
	if err != nil {
		if !f.good {
			// Policies must not be gone because another document of their file is broken when
			// the controller starts.
			f.objects = objects
		}
		f.problem = &Problem{File: f.path, Reason: err.Error()}
		var at *lineError
		if errors.As(err, &at) {
			f.problem.Line, f.problem.Reason = at.line, at.err.Error()
		}
		return true
	}
	f.objects, f.problem, f.good = objects, nil, true
	return true
}

func readManifest(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err == nil && len(text) > maxManifest {
		return nil, fmt.Errorf("larger than %d MiB", maxManifest>>20)
	}
	return text, err
}

func isManifest(path string) bool {
	switch filepath.Ext(path) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// walk calls visit for dir and everything below it that is not hidden, in the order
// of names. It follows links to files, because a mounted ConfigMap consists of
// them, but not links to directories. The error names the directories that could
// not be read. walk visits the rest in any case.
func walk(dir string, visit func(path string, info os.FileInfo)) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	visit(dir, info)
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if e.IsDir() {
			if below := walk(path, visit); below != nil && !errors.Is(below, os.ErrNotExist) {
				err = errors.Join(err, below)
			}
			continue
		}
		if info, statErr := os.Stat(path); statErr == nil && info.Mode().IsRegular() {
			visit(path, info)
		}
	}
	return err
}
