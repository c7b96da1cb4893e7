package kernels

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLineOf(t *testing.T) {
	for release, want := range map[string]string{
		"6.12.48+deb13-cloud-amd64": "6.12", "5.10.0-36-cloud-amd64": "5.10", "6.18-rc1": "6.18", "7.0.1": "7.0", "6.6": "6.6", "next": "",
	} {
		if got := lineOf(release); got != want {
			t.Errorf("%s: got %q, want %q", release, got, want)
		}
	}
	for line, want := range map[string]bool{"5.10": false, "5.14": false, "5.15": true, "6.1": true, "10.0": true, "4.19": false, "": false} {
		if got := supported(line); got != want {
			t.Errorf("%q is supported: %v, want %v", line, got, want)
		}
	}
}

// TestImageIn: a package has the image in one of two places.
func TestImageIn(t *testing.T) {
	for _, file := range []string{"boot/vmlinuz-6.1.0-9-cloud-amd64", "usr/lib/modules/6.1.0-9-cloud-amd64/vmlinuz"} {
		dir := t.TempDir()
		want := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(want), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(want, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if image, release, err := imageIn(dir); err != nil || image != want || release != "6.1.0-9-cloud-amd64" {
			t.Errorf("%s: got %s, %q, %v", file, image, release, err)
		}
	}
	if _, _, err := imageIn(t.TempDir()); err == nil {
		t.Error("nothing: got no error, want one")
	}
}

// TestShort: the short form has the tests that there are, and names none that is not.
func TestShort(t *testing.T) {
	for dir, names := range map[string][]string{"../../pkg/redirect": shortRedirectTests, "../e2e": append(shortE2ETests, e2eTests...)} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
		for _, name := range names {
			if !strings.Contains(all.String(), "\nfunc "+name+"(t *testing.T)") {
				t.Errorf("%s has no %s", dir, name)
			}
		}
	}
}

// ko is the file of a module that needs others.
func ko(t *testing.T, depends string) []byte {
	t.Helper()
	info := []byte("license=GPL\x00depends=" + depends + "\x00name=x\x00")
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	var b bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	const head, entry = 64, 64
	header := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: head, Shentsize: entry, Shnum: 3, Shstrndx: 2}
	copy(header.Ident[:], "\x7fELF\x02\x01\x01")
	header.Shoff = uint64(head + len(info) + len(names))
	put(header)
	b.Write(info)
	b.Write(names)
	put(elf.Section64{})
	put(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: head, Size: uint64(len(info))})
	put(elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(head + len(info)), Size: uint64(len(names))})
	return b.Bytes()
}

// TestLoad: a module comes after those that it needs, once; what is built in does not come.
func TestLoad(t *testing.T) {
	dir := t.TempDir()
	for name, depends := range map[string]string{
		"net/nft_nat.ko": "nf_nat,nf_tables", "net/nf-nat.ko": "nf_conntrack", "net/nf_tables.ko": "nfnetlink", "net/nf_conntrack.ko": "", "net/unused.ko": "",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, ko(t, depends), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "modules.builtin"), []byte("kernel/net/nfnetlink.ko\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	k := &kernel{modules: dir}
	list, missing, err := k.load([]string{"nft_nat", "nf_tables", "veth"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range list {
		names = append(names, m.name)
	}
	if diff := cmp.Diff([]string{"nf_conntrack", "nf_nat", "nf_tables", "nft_nat"}, names); diff != "" {
		t.Errorf("the order (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"veth"}, missing); diff != "" {
		t.Errorf("what is missing (-want +got):\n%s", diff)
	}
}

func TestUnzip(t *testing.T) {
	const plain = "the image"
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write([]byte(plain)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	head := make([]byte, 64)
	copy(head, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(head[8:], 64)
	binary.LittleEndian.PutUint32(head[12:], uint32(zipped.Len()))
	copy(head[24:], "gzip")
	program := append(append([]byte{}, head...), zipped.Bytes()...)
	for name, image := range map[string][]byte{"plain": []byte(plain), "gzip": append(zipped.Bytes(), 0, 0), "EFI": append(program, "more"...)} {
		if got, err := unzip(image); err != nil || string(got) != plain {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, plain)
		}
	}
	copy(head[24:], "lzma")
	if _, err := unzip(append(append([]byte{}, head...), zipped.Bytes()...)); err == nil || !strings.Contains(err.Error(), "lzma") {
		t.Errorf("got %v, want an error that names lzma", err)
	}
	if _, err := unzip(program[:80]); err == nil {
		t.Error("a cut image: got no error, want one")
	}
}
