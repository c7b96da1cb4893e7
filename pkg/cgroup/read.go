package cgroup

import (
	"io/fs"
	"path"
	"slices"
)

// Read returns what a pod uses, of the parts in want. It returns false if none of its
// cgroups is there any more. A file that is not there, or that has another form than the
// kernel's, counts as not known.
func Read(trees []Tree, dirs Dirs, want Known) (u Usage, ok bool) {
	// Version 1 comes first: on a hybrid host version 2 only adds what that does not know.
	for _, v2 := range []bool{false, true} {
		for i, t := range trees {
			if i >= len(dirs) || t.V2 != v2 {
				continue
			}
			had := u.Known | ^want // these are not read
			var sum sums
			for _, dir := range dirs[i] {
				c := cgroup{t.FS, dir}
				if !c.exists() {
					continue
				}
				ok = true
				if t.V2 {
					c.read2(&u, had, &sum)
				} else {
					c.read1(&u, t.Controllers, had, &sum)
				}
			}
			sum.into(&u)
		}
	}
	if u.MemoryLimit > 0 {
		u.Fill = max(u.Fill, float64(u.Memory)/float64(u.MemoryLimit))
	}
	return u, ok
}

// sums are the limits of several cgroups of a pod in one tree. Together they are limited
// only if each is.
type sums struct {
	processors          float64
	memory              uint64
	unlimited, noMemory bool
}

func (s *sums) into(u *Usage) {
	if s.processors > 0 && !s.unlimited {
		u.CPULimit = s.processors
	}
	if s.memory > 0 && !s.noMemory {
		u.MemoryLimit = s.memory
	}
}

func (s *sums) limitProcessors(n float64) {
	s.processors += n
	s.unlimited = s.unlimited || n == 0
}

func (s *sums) limitMemory(n uint64) {
	s.memory += n
	s.noMemory = s.noMemory || n == 0
}

// cgroup is one directory of a tree.
type cgroup struct {
	tree fs.FS
	dir  string
}

func (c cgroup) exists() bool {
	info, err := fs.Stat(c.tree, c.dir)
	return err == nil && info.IsDir()
}

// text returns the content of a file; "" if it cannot be read.
func (c cgroup) text(file string) string {
	text, _ := fs.ReadFile(c.tree, path.Join(c.dir, file))
	return string(text)
}

// levels returns the cgroup and those below it: the containers of a pod, and what they may
// have made themselves.
func (c cgroup) levels() []cgroup {
	all := []cgroup{c}
	for i := 0; i < len(all) && len(all) < 256; i++ {
		entries, _ := fs.ReadDir(all[i].tree, all[i].dir)
		for _, e := range entries {
			if e.IsDir() {
				all = append(all, cgroup{c.tree, path.Join(all[i].dir, e.Name())})
			}
		}
	}
	return all
}

// fill notes how much of a cgroup's limit is in use, of the files limit and used. A limit
// that cannot be a real one is none: version 1 says "no limit" by a number.
func (u *Usage) fill(c cgroup, limit, used string) {
	most, _ := number(c.text(limit))
	if most == 0 || most >= noLimit {
		return
	}
	now, _ := number(c.text(used))
	u.Fill = max(u.Fill, float64(now)/float64(most))
}

// has reports whether a tree of version 1 has the controller.
func has(controllers []string, name string) bool { return slices.Contains(controllers, name) }
