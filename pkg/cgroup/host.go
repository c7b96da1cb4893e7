package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Host returns the hierarchies of the host, that is, of process 1 of a proc file system,
// usually "/proc". They are read through the root directory of process 1, because in a
// container the paths of the mounts may lead to the container's own cgroup. That needs
// CAP_SYS_PTRACE; without it Host returns those that this process sees.
func Host(proc string) ([]Tree, error) {
	trees, err := treesOf(proc, "1")
	if errors.Is(err, fs.ErrPermission) {
		trees, err = treesOf(proc, "self")
	}
	if err != nil {
		return nil, fmt.Errorf("find the host's cgroups: %w", err)
	}
	return trees, nil
}

func treesOf(proc, pid string) ([]Tree, error) {
	text, err := os.ReadFile(filepath.Join(proc, pid, "mountinfo"))
	if err != nil {
		return nil, err
	}
	var trees []Tree
	for _, m := range Mounts(string(text)) {
		dir := filepath.Join(proc, pid, "root", m.Path)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			continue // another mount hides it
		} else if err != nil {
			return nil, err
		}
		trees = append(trees, Tree{FS: os.DirFS(dir), V2: m.V2, Controllers: m.Controllers})
	}
	if len(trees) == 0 {
		return nil, errors.New("none is mounted: is the agent in the host's PID namespace?")
	}
	return trees, nil
}
