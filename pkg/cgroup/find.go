package cgroup

import (
	"io/fs"
	"path"
	"strings"
)

// Dirs are the cgroups of a pod: for each tree the directories, from its root. They are
// the one that the kubelet has made for the pod, or those of its containers.
type Dirs [][]string

// Empty reports whether there is no directory.
func (d Dirs) Empty() bool {
	for _, dirs := range d {
		if len(dirs) > 0 {
			return false
		}
	}
	return true
}

// deepest is how far below the root of a tree a pod's cgroup is looked for. Directly on a
// host it is at 2 or 3; a node may itself be in a container.
const deepest = 10

// Pods returns the cgroups of all pods that the kubelet has made cgroups for, by UID.
func Pods(trees []Tree) map[string]Dirs {
	pods := make(map[string]Dirs)
	for i, t := range trees {
		walk(t.FS, func(dir string) bool {
			uid, ok := PodUID(path.Base(dir))
			if !ok {
				return true
			}
			if pods[uid] == nil {
				pods[uid] = make(Dirs, len(trees))
			}
			pods[uid][i] = append(pods[uid][i], dir)
			return false
		})
	}
	return pods
}

// OfProcesses returns the cgroups that the processes are in. Others may be in the same one
// (the root, or the one that the pods' parent has in a hierarchy in which nobody made cgroups
// for the pods): such a cgroup says nothing about a pod. So the root of a tree is left out,
// and a cgroup of whose processes no more than half are among pids.
func OfProcesses(trees []Tree, pids []string) Dirs {
	wanted := make(map[string]bool, len(pids))
	for _, pid := range pids {
		wanted[pid] = true
	}
	dirs := make(Dirs, len(trees))
	for i, t := range trees {
		walk(t.FS, func(dir string) bool {
			procs, _ := fs.ReadFile(t.FS, path.Join(dir, "cgroup.procs")) // cannot be read in a threaded cgroup
			mine, all := 0, 0
			for pid := range strings.FieldsSeq(string(procs)) {
				if all++; wanted[pid] {
					mine++
				}
			}
			if 2*mine > all {
				dirs[i] = append(dirs[i], dir)
			}
			return true
		})
	}
	return dirs
}

// walk calls visit for the directories below the root of a tree, parents first, and does
// not go below those for which it returns false. It passes over what disappears meanwhile.
func walk(tree fs.FS, visit func(dir string) (below bool)) {
	_ = fs.WalkDir(tree, ".", func(dir string, e fs.DirEntry, err error) error {
		switch {
		case err != nil && dir == ".":
			return err
		case err != nil:
			return fs.SkipDir
		case dir == "." || !e.IsDir():
			return nil
		case !visit(dir) || strings.Count(dir, "/")+1 >= deepest:
			return fs.SkipDir
		}
		return nil
	})
}
