package cpio

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// list reads an archive as the kernel does: header, name and data, each from a multiple of
// four bytes on.
func list(t *testing.T, b []byte) map[string]string {
	t.Helper()
	found := map[string]string{}
	at := 0
	align := func() { at = (at + 3) &^ 3 }
	for {
		if at+110 > len(b) || string(b[at:at+6]) != "070701" {
			t.Fatalf("no header at %d", at)
		}
		var f [13]uint32
		for i := range f {
			if _, err := fmt.Sscanf(string(b[at+6+8*i:at+14+8*i]), "%x", &f[i]); err != nil {
				t.Fatal(err)
			}
		}
		at += 110
		name := string(b[at : at+int(f[11])-1])
		if b[at+len(name)] != 0 {
			t.Fatalf("%s: the name does not end", name)
		}
		at += len(name) + 1
		align()
		if name == "TRAILER!!!" {
			return found
		}
		data := string(b[at : at+int(f[6])])
		at += len(data)
		align()
		found[name] = fmt.Sprintf("%o %d/%d %s", f[1], f[9], f[10], data)
	}
}

func TestArchive(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, perm os.FileMode) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), perm); err != nil {
			t.Fatal(err)
		}
	}
	write("lib/a.so.1", "library", 0o644)
	write("share/doc/readme", "not wanted", 0o644)
	write("bin/run", "program", 0o755)
	if err := os.Symlink("a.so.1", filepath.Join(dir, "lib/a.so")); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	a := NewWriter(&b)
	a.Tree(dir, func(name string) bool { return !strings.HasPrefix(name, "share/") })
	a.Bytes("/etc/hosts", []byte("x"), 0o600)
	a.Dir("tmp")
	a.Link("bin/sh", "/bin/run")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"dev": "40755 0/0 ", "dev/console": "20600 5/1 ", "lib": "40755 0/0 ", "bin": "40755 0/0 ", "etc": "40755 0/0 ", "tmp": "40755 0/0 ",
		"lib/a.so.1": "100644 0/0 library", "lib/a.so": "120777 0/0 a.so.1", "bin/run": "100755 0/0 program",
		"bin/sh": "120777 0/0 /bin/run", "etc/hosts": "100600 0/0 x",
	}
	if diff := cmp.Diff(want, list(t, b.Bytes())); diff != "" {
		t.Errorf("the archive (-want +got):\n%s", diff)
	}
}

// TestArchiveErrors: what is missing, and what is there twice, is said at the end.
func TestArchiveErrors(t *testing.T) {
	for name, add := range map[string]func(a *Writer){
		"no such file": func(a *Writer) { a.File("x", filepath.Join(t.TempDir(), "none")) },
		"no such tree": func(a *Writer) { a.Tree(filepath.Join(t.TempDir(), "none"), func(string) bool { return true }) },
		"twice":        func(a *Writer) { a.Bytes("x", nil, 0o644); a.Bytes("/x", nil, 0o644) },
	} {
		a := NewWriter(&bytes.Buffer{})
		add(a)
		if err := a.Close(); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
}
