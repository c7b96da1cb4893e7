// Package ownpages gives back pages of the program that this process does not need any more.
//
// The code and the constants of a program are mapped from its file, and become resident as
// they are touched, 64 KiB around each place. What only the start touches, such as the
// tables of packages, the parser of flags and the loader of eBPF programs, stays resident
// until the kernel is short of memory.
package ownpages

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Drop takes all pages of the program's code and constants out of this process's memory, and
// returns how many bytes that were. What is needed comes back as it is touched, from the page
// cache: Drop does not take the pages from there, so that no access waits for a disk unless the
// kernel was short of memory.
func Drop() (bytes int, err error) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return 0, fmt.Errorf("mappings of this process: %w", err)
	}
	defer f.Close()
	all, err := read(f)
	if err != nil {
		return 0, fmt.Errorf("mappings of this process: %w", err)
	}
	for _, m := range ofProgram(all, uintptr(reflect.ValueOf(Drop).Pointer())) {
		if err := advise(m, unix.MADV_DONTNEED); err != nil {
			return bytes, fmt.Errorf("give back pages of the program: %w", err)
		}
		bytes += m.resident
	}
	return bytes, nil
}

func advise(m mapping, advice uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, advice); errno != 0 {
		return errno
	}
	return nil
}

// mapping is one of /proc/PID/smaps.
type mapping struct {
	start, end uintptr
	mode       string // r-xp
	file       string // device and inode: 08:01 1234
	resident   int    // bytes
	// own are the bytes of pages that are not those of the file any more, in memory or
	// swapped out: of a program that the dynamic linker has changed, or a debugger.
	own int
}

// ofProgram returns the mappings of the file that has the code at pc which can be had again
// from that file: nobody writes to them, and nobody has.
func ofProgram(all []mapping, pc uintptr) (out []mapping) {
	file := ""
	for _, m := range all {
		if m.start <= pc && pc < m.end {
			file = m.file
		}
	}
	for _, m := range all {
		if m.file == file && (m.mode == "r-xp" || m.mode == "r--p") && m.own == 0 {
			out = append(out, m)
		}
	}
	return out
}

// read reads mappings as /proc/PID/smaps has them (proc_pid_smaps(5)).
func read(r io.Reader) (all []mapping, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		if name, isField := strings.CutSuffix(fields[0], ":"); isField {
			if len(all) == 0 {
				return nil, fmt.Errorf("%q is of no mapping", lines.Text())
			}
			if err := all[len(all)-1].add(name, fields[1]); err != nil {
				return nil, err
			}
			continue
		}
		m, err := parse(fields)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, lines.Err()
}

// parse reads the first line of a mapping: START-END MODE OFFSET DEVICE INODE [PATH].
func parse(fields []string) (m mapping, err error) {
	start, end, ok := strings.Cut(fields[0], "-")
	if !ok || len(fields) < 5 {
		return m, fmt.Errorf("%q is no mapping", strings.Join(fields, " "))
	}
	from, err := strconv.ParseUint(start, 16, 64)
	if err != nil {
		return m, err
	}
	to, err := strconv.ParseUint(end, 16, 64)
	if err != nil {
		return m, err
	}
	return mapping{start: uintptr(from), end: uintptr(to), mode: fields[1], file: fields[3] + " " + fields[4]}, nil
}

// add takes what a line says of a mapping, in KiB.
func (m *mapping) add(name, value string) error {
	switch name {
	case "Rss", "Anonymous", "Swap":
	default:
		return nil
	}
	kib, err := strconv.Atoi(value)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if name == "Rss" {
		m.resident = kib << 10
	} else {
		m.own += kib << 10
	}
	return nil
}
