// Package kernel is the cluster's interface to the kernel: cgroups, and processes in
// them. It needs root.
package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Hierarchy is a mounted cgroup hierarchy. A machine has version 1 hierarchies, the
// version 2 hierarchy, or both (hybrid).
type Hierarchy struct {
	Mount   string   // where it is mounted
	V2      bool     // version 2; at most one
	Only    bool     // the only hierarchy, which then has the controllers
	Options []string // version 1: the mount options that select it, such as "cpu" or "none","name=systemd"
}

// Hierarchies lists the hierarchies that the calling process sees.
func Hierarchies() ([]Hierarchy, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	hs := parseHierarchies(string(text))
	if len(hs) == 1 {
		hs[0].Only = true
	}
	if !slices.ContainsFunc(hs, func(h Hierarchy) bool { return h.V2 }) {
		return nil, errors.New("no cgroup v2 hierarchy is mounted: neither at /sys/fs/cgroup nor at /sys/fs/cgroup/unified")
	}
	return hs, nil
}

// parseHierarchies parses /proc/PID/mountinfo. The fields before " - " end with
// options; those after it are type, source and super block options.
func parseHierarchies(mountinfo string) []Hierarchy {
	var hs []Hierarchy
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		h := Hierarchy{Mount: left[4]}
		switch right[0] {
		case "cgroup2":
			h.V2 = true
		case "cgroup":
			h.Options = controllers(right[2])
		default:
			continue
		}
		if !slices.ContainsFunc(hs, func(o Hierarchy) bool { return o.V2 == h.V2 && slices.Equal(o.Options, h.Options) }) {
			hs = append(hs, h)
		}
	}
	return hs
}

// controllers returns the super block options that identify the hierarchy. A named
// hierarchy has no controllers, which mount needs to be told explicitly.
func controllers(super string) []string {
	var options []string
	for _, o := range strings.Split(super, ",") {
		switch {
		case strings.HasPrefix(o, "name="):
			options = append(options, "none", o)
		case o == "rw" || o == "ro" || strings.Contains(o, "="):
		case o == "xattr" || o == "noprefix" || o == "clone_children":
		default:
			options = append(options, o)
		}
	}
	return options
}

// delegate enables the controllers of a version 2 cgroup for its children. Beside
// version 1 hierarchies it has no useful ones.
func (h Hierarchy) delegate(dir string) error {
	if !h.Only {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(text)) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0); err != nil {
			return fmt.Errorf("give cgroup controller %s to the children of %s: %w", c, dir, err)
		}
	}
	return nil
}

// Unified returns the version 2 hierarchy.
func Unified() (Hierarchy, error) {
	hs, err := Hierarchies()
	if err != nil {
		return Hierarchy{}, err
	}
	return hs[slices.IndexFunc(hs, func(h Hierarchy) bool { return h.V2 })], nil
}

// MakeCgroup makes the cgroup in the hierarchy, and its parents.
func (h Hierarchy) MakeCgroup(name string) (string, error) {
	dir := h.Mount
	for _, part := range strings.Split(name, "/") {
		parent := dir
		dir = filepath.Join(dir, part)
		if err := h.delegate(parent); err != nil {
			return "", err
		}
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("make cgroup: %w", err)
		}
		if !slices.Contains(h.Options, "cpuset") {
			continue
		}
		// A new cpuset is empty, and a process cannot join an empty one.
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
			text, err := os.ReadFile(filepath.Join(parent, f))
			if err != nil {
				return "", err
			}
			if err := os.WriteFile(filepath.Join(dir, f), text, 0); err != nil {
				return "", fmt.Errorf("fill cpuset: %w", err)
			}
		}
	}
	return dir, nil
}

// JoinCgroup moves the calling process into the cgroup.
func JoinCgroup(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("join cgroup: %w", err)
	}
	return nil
}

// CgroupProcs lists the processes in the cgroup itself, none if there is no cgroup.
func CgroupProcs(dir string) []int {
	text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	var pids []int
	for line := range strings.Lines(string(text)) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// RemoveCgroup kills all processes in the cgroup and below it, and removes the
// directories in all hierarchies. It is no error if there is no cgroup.
func RemoveCgroup(name string) error {
	hs, err := Hierarchies()
	if err != nil {
		return err
	}
	// Version 2 first, because only it can kill. A killed process leaves all its cgroups
	// at the end of its exit.
	slices.SortFunc(hs, func(a, b Hierarchy) int { return strings.Compare(strconv.FormatBool(b.V2), strconv.FormatBool(a.V2)) })
	for _, h := range hs {
		dir := filepath.Join(h.Mount, name)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if h.V2 {
			if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err != nil {
				return fmt.Errorf("kill cgroup (Linux 5.14 or later?): %w", err)
			}
		}
		if err := removeTree(dir); err != nil {
			return err
		}
	}
	return nil
}

func removeTree(dir string) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		var busy error
		for _, d := range slices.Backward(cgroupTree(dir)) {
			if err := os.Remove(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
				busy = fmt.Errorf("remove cgroup (processes %v): %w", CgroupProcs(d), err)
			}
		}
		if busy == nil || time.Now().After(deadline) {
			return busy
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// cgroupTree lists dir and every directory below it, parents first.
func cgroupTree(dir string) []string {
	var dirs []string
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // skip what has disappeared in the meantime
	})
	return dirs
}
