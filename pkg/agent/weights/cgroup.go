package weights

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/underlane/underlane/pkg/cgroup"
	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/redirect"
)

// hierarchy is the cgroup hierarchy that shares the processors.
type hierarchy struct {
	root string // its directory
	file string // in the directory of a cgroup
	// unit is the file's value that is a default weight: 100 of cpu.weight, 1024 of
	// cpu.shares.
	unit int
}

// maxDepth is how deep the cgroups of pods are below the root. The kubelet makes
// kubepods/burstable/podUID, or kubepods.slice/kubepods-burstable.slice/…podUID.slice, below
// its --cgroup-root, which is a container's cgroup where nodes are containers.
const maxDepth = 8

// findHierarchy finds the hierarchy: cgroup v2 if it has the controller cpu, otherwise v1.
// proc is the host's proc file system. cgroupRoot is the agent's --cgroup-root.
func findHierarchy(proc, cgroupRoot string) (*hierarchy, error) {
	mounts, err := os.ReadFile(filepath.Join(proc, "1/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("find the cgroups of pods: %w", err)
	}
	v1, v2 := cpuMounts(strings.NewReader(string(mounts)))
	root := cgroupRoot
	if root == redirect.AutoCgroup {
		root = hostPath(proc, v2)
	}
	if list, err := os.ReadFile(filepath.Join(root, "cgroup.controllers")); root != "" && err == nil && slices.Contains(strings.Fields(string(list)), "cpu") {
		return &hierarchy{root: root, file: "cpu.weight", unit: 100}, nil
	}
	if v1 == "" {
		return nil, errors.New("find the cgroups of pods: neither cgroup v2 nor v1 has the controller cpu here")
	}
	return &hierarchy{root: hostPath(proc, v1), file: "cpu.shares", unit: 1024}, nil
}

// cpuMounts returns the directories where cgroup v1 with the controller cpu, and cgroup v2,
// are mounted. "" is none.
func cpuMounts(mountinfo io.Reader) (v1, v2 string) {
	for lines := bufio.NewScanner(mountinfo); lines.Scan(); {
		// ID parent major:minor root MOUNT options [tags…] - TYPE source OPTIONS
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(kind) < 3 {
			continue
		}
		switch {
		case kind[0] == "cgroup2" && v2 == "":
			v2 = fields[4]
		case kind[0] == "cgroup" && v1 == "" && slices.Contains(strings.Split(kind[2], ","), "cpu"):
			v1 = fields[4]
		}
	}
	return v1, v2
}

// hostPath returns the path by which a directory of the host is reached: in a container the
// same path often leads to another directory. If the root directory of process 1 must not be
// used, it is the same path. "" remains "".
func hostPath(proc, dir string) string {
	if dir == "" {
		return ""
	}
	hosts := filepath.Join(proc, "1/root", dir)
	if _, err := os.Stat(hosts); err != nil {
		return dir
	}
	return hosts
}

// pods finds the cgroups of pods, by UID.
func (h *hierarchy) pods() (map[string]string, error) {
	found := make(map[string]string)
	root := filepath.Clean(h.root)
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if path != root && errors.Is(err, fs.ErrNotExist) {
			return nil // the cgroup was removed meanwhile
		}
		if err != nil || !e.IsDir() {
			return err
		}
		if uid, ok := cgroup.PodUID(e.Name()); ok {
			found[uid] = path
			return fs.SkipDir
		}
		if strings.Count(path[len(root):], string(filepath.Separator)) >= maxDepth {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find the cgroups of pods: %w", err)
	}
	return found, nil
}

// weight reads the weight of a cgroup, in units of cpu.weight.
func (h *hierarchy) weight(cgroup string) (int, error) {
	text, err := os.ReadFile(filepath.Join(cgroup, h.file))
	if err != nil {
		return 0, fmt.Errorf("weight of a pod's cgroup: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("weight of a pod's cgroup: %s: %w", filepath.Join(cgroup, h.file), err)
	}
	return n * fairshare.DefaultWeight / h.unit, nil
}
