package host

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

// MakeCgroup makes a cgroup v2 directory and its parents.
func MakeCgroup(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	return nil
}

// JoinCgroup moves the calling process into the cgroup.
func JoinCgroup(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return fmt.Errorf("join cgroup: %w", err)
	}
	return nil
}

// CgroupProcs lists the processes in the cgroup and those below it.
func CgroupProcs(dir string) []int {
	var pids []int
	for _, d := range cgroupTree(dir) {
		text, _ := os.ReadFile(filepath.Join(d, "cgroup.procs")) // if it is gone, no process is in it
		for line := range strings.Lines(string(text)) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// RemoveCgroup kills all processes in the cgroup and below it, waits until they
// have ended, and removes the directories. It is no error if there is none.
func RemoveCgroup(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err != nil {
		return fmt.Errorf("kill cgroup (Linux 5.14 or later?): %w", err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := removeTree(dir)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(2 * time.Millisecond) // a killed process leaves its cgroup at the end of its exit
	}
}

func removeTree(dir string) error {
	for _, d := range slices.Backward(cgroupTree(dir)) {
		if err := os.Remove(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove cgroup (processes %v): %w", CgroupProcs(d), err)
		}
	}
	return nil
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
