package cgroup

import (
	"io/fs"
	"slices"
	"strings"
)

// Tree is a hierarchy of cgroups.
type Tree struct {
	FS          fs.FS    // of its root
	V2          bool     // of version 2
	Controllers []string // of version 1: those that it has
}

// Mount is where a hierarchy is mounted.
type Mount struct {
	Path        string
	V2          bool
	Controllers []string
}

// Mounts returns the mounts of cgroups in a process's mountinfo (proc(5)), one for each
// hierarchy. It leaves out hierarchies of version 1 that have nothing that is read here.
func Mounts(mountinfo string) []Mount {
	var all []Mount
	seen := map[string]bool{}
	for line := range strings.Lines(mountinfo) {
		// ID parent major:minor root PATH options [tags…] - TYPE source options
		before, after, ok := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) < 3 || seen[fields[2]] {
			continue
		}
		m := Mount{Path: unescape(fields[4]), V2: kind[0] == "cgroup2"}
		if kind[0] == "cgroup" {
			m.Controllers = slices.DeleteFunc(strings.Split(kind[2], ","), func(option string) bool {
				return !slices.Contains(controllers, option)
			})
		}
		if m.V2 || len(m.Controllers) > 0 {
			seen[fields[2]] = true
			all = append(all, m)
		}
	}
	return all
}

// controllers are those of version 1 that are read.
var controllers = []string{"cpu", "cpuacct", "memory"}

// escapes are those that mountinfo has in paths.
var escapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func unescape(path string) string { return escapes.Replace(path) }
