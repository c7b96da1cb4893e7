package kernels

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kernel is one that can be booted: an image, and the modules that belong to it.
type kernel struct {
	line    string // 5.10, 6.1, …
	arch    string // amd64, arm64
	image   string // file
	modules string // directory lib/modules/RELEASE; "": it has none
	release string // as uname -r says
}

// find gets a kernel: of a line, the newest, or that in a directory with boot/vmlinuz-* and
// lib/modules/*, as a package has them.
func find(root, name, arch string) (*kernel, error) {
	dir := name
	if !strings.Contains(name, "/") {
		got, err := fetch(root, "kernel", name, arch)
		if err != nil {
			return nil, fmt.Errorf("kernel %s: %w", name, err)
		}
		dir = got
	}
	image, release, err := imageIn(dir)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", name, err)
	}
	k := &kernel{arch: arch, image: image, release: release, line: lineOf(release)}
	for _, lib := range []string{"lib", "usr/lib"} {
		if modules := filepath.Join(dir, lib, "modules", k.release); exists(modules) {
			k.modules = modules
		}
	}
	return k, nil
}

// imageIn finds the one kernel of a package, and its release.
func imageIn(dir string) (image, release string, err error) {
	var images []string
	for _, place := range []string{"boot/vmlinuz-*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz"} {
		found, err := filepath.Glob(filepath.Join(dir, place))
		if err != nil {
			return "", "", err
		}
		images = append(images, found...)
	}
	if len(images) != 1 {
		return "", "", fmt.Errorf("%s has %d files boot/vmlinuz-RELEASE or lib/modules/RELEASE/vmlinuz, want one", dir, len(images))
	}
	release, ok := strings.CutPrefix(filepath.Base(images[0]), "vmlinuz-")
	if !ok {
		release = filepath.Base(filepath.Dir(images[0]))
	}
	return images[0], release, nil
}

// lineOf returns the first two numbers of a release: 6.12 of 6.12.48+deb13-cloud-amd64.
func lineOf(release string) string {
	n, dots := 0, 0
	for n < len(release) {
		c := release[n]
		if c == '.' {
			if dots++; dots == 2 {
				break
			}
		} else if c < '0' || c > '9' {
			break
		}
		n++
	}
	return strings.TrimSuffix(release[:n], ".")
}

// fetch calls scripts/kernels.sh, which prints a directory.
func fetch(root string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(root, "scripts/kernels.sh"), args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("scripts/kernels.sh %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// bootable returns a file that qemu can start. On arm64 it is the image itself: Debian's
// newer kernels are programs for EFI that have it in them, compressed ("zimg",
// drivers/firmware/efi/libstub/zboot-header.S), or are compressed by gzip.
func (k *kernel) bootable(dir string) (string, error) {
	if k.arch != "arm64" {
		return k.image, nil
	}
	image, err := os.ReadFile(k.image)
	if err != nil {
		return "", err
	}
	plain, err := unzip(image)
	if err != nil {
		return "", fmt.Errorf("%s: %w", k.image, err)
	}
	file := filepath.Join(dir, "Image")
	return file, os.WriteFile(file, plain, 0o644)
}

func unzip(image []byte) ([]byte, error) {
	how := "gzip"
	if len(image) > 64 && string(image[4:8]) == "zimg" {
		at, size := binary.LittleEndian.Uint32(image[8:]), binary.LittleEndian.Uint32(image[12:])
		how, _, _ = strings.Cut(string(image[24:56]), "\x00")
		if uint64(at)+uint64(size) > uint64(len(image)) {
			return nil, fmt.Errorf("its payload ends at %d, and it has %d bytes", at+size, len(image))
		}
		image = image[at : at+size]
	} else if !bytes.HasPrefix(image, []byte{0x1f, 0x8b}) {
		return image, nil
	}
	switch how {
	case "gzip":
		r, err := gzip.NewReader(bytes.NewReader(image))
		if err != nil {
			return nil, err
		}
		r.Multistream(false) // zeros follow
		return io.ReadAll(r)
	case "zstd", "zstd22":
		return filter(image, "zstd", "-dcq")
	case "xzkern":
		return filter(image, "xz", "-dcq")
	}
	return nil, fmt.Errorf("it is compressed by %s", how)
}

// filter returns what a program makes of data.
func filter(data []byte, program string, args ...string) ([]byte, error) {
	cmd := exec.Command(program, args...)
	cmd.Stdin = bytes.NewReader(data)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
