// Package cpio writes archives that Linux unpacks as its first root file system: the format
// newc of Documentation/driver-api/early-userspace/buffer-format.rst.
package cpio

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Types of files, as in st_mode.
const (
	dirMode     = 0o040000
	fileMode    = 0o100000
	linkMode    = 0o120000
	consoleMode = 0o020600
)

// Writer writes an archive. Directories above a file are added as they are needed. All
// belongs to root. The first error stays, and Close returns it.
type Writer struct {
	w    io.Writer
	err  error
	n    int64 // bytes written
	ino  uint32
	seen map[string]bool
}

// NewWriter returns a Writer of an archive with /dev/console in it.
func NewWriter(w io.Writer) *Writer {
	a := &Writer{w: w, seen: map[string]bool{}}
	a.above("dev/console")
	a.entry("dev/console", consoleMode, 0, 5, 1)
	return a
}

// Dir adds a directory.
func (a *Writer) Dir(name string) {
	name = clean(name)
	if name == "" || a.seen[name] {
		return
	}
	a.above(name)
	a.entry(name, dirMode|0o755, 0, 0, 0)
}

// Bytes adds a file.
func (a *Writer) Bytes(name string, data []byte, perm fs.FileMode) {
	name = clean(name)
	a.above(name)
	a.entry(name, fileMode|uint32(perm.Perm()), int64(len(data)), 0, 0)
	a.write(data)
	a.pad()
}

// Link adds a symbolic link.
func (a *Writer) Link(name, target string) {
	name = clean(name)
	a.above(name)
	a.entry(name, linkMode|0o777, int64(len(target)), 0, 0)
	a.write([]byte(target))
	a.pad()
}

// File adds a file of this machine.
func (a *Writer) File(name, source string) {
	f, err := os.Open(source)
	if err != nil {
		a.fail(err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		a.fail(err)
		return
	}
	name = clean(name)
	a.above(name)
	a.entry(name, fileMode|uint32(info.Mode().Perm()), info.Size(), 0, 0)
	if a.err == nil {
		n, err := io.Copy(a.w, io.LimitReader(f, info.Size()))
		a.n += n
		if err == nil && n != info.Size() {
			err = fmt.Errorf("%s: it got shorter", source)
		}
		a.fail(err)
	}
	a.pad()
}

// Tree adds what is below a directory of this machine that want accepts, by its path there.
func (a *Writer) Tree(root string, want func(name string) bool) {
	a.fail(filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == root {
			return err // nil at the root
		}
		name, err := filepath.Rel(root, file)
		if err != nil || !d.IsDir() && !want(name) {
			return err
		}
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(file)
			a.Link(name, target)
			return err
		case d.Type().IsRegular():
			a.File(name, file)
		}
		return nil
	}))
}

// Close ends the archive.
func (a *Writer) Close() error {
	a.entry("TRAILER!!!", 0, 0, 0, 0)
	return a.err
}

func (a *Writer) above(name string) {
	if dir := path.Dir(name); dir != "." {
		a.Dir(dir)
	}
}

// entry writes a header. Data and padding follow it.
func (a *Writer) entry(name string, mode uint32, size int64, major, minor uint32) {
	if size > 1<<32-1 {
		a.fail(fmt.Errorf("%s has %d bytes: more than 4 GiB do not fit", name, size))
	}
	if mode != 0 && a.seen[name] {
		a.fail(fmt.Errorf("%s is added twice", name))
	}
	a.seen[name] = true
	a.ino++
	links := 1
	if mode&dirMode != 0 {
		links = 2
	}
	// ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
	fields := []any{a.ino, mode, 0, 0, links, 0, uint32(size), 0, 0, major, minor, len(name) + 1, 0}
	a.write(fmt.Appendf([]byte("070701"), strings.Repeat("%08x", len(fields)), fields...))
	a.write(append([]byte(name), 0))
	a.pad()
}

func (a *Writer) pad() {
	if r := a.n % 4; r != 0 {
		a.write(make([]byte, 4-r))
	}
}

func (a *Writer) write(b []byte) {
	if a.err != nil {
		return
	}
	n, err := a.w.Write(b)
	a.n += int64(n)
	a.fail(err)
}

func (a *Writer) fail(err error) {
	if a.err == nil && err != nil {
		a.err = fmt.Errorf("archive: %w", err)
	}
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }
