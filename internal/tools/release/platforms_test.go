package main

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// checkPlatforms checks the programs of all platforms, and runs those of Linux.
func checkPlatforms(t *testing.T, files map[string][]byte) {
	for _, p := range platforms {
		name := "v0.2.0/underlane-v0.2.0-" + strings.ReplaceAll(p, "/", "-")
		if strings.HasPrefix(p, "windows/") {
			name += ".exe"
		}
		program, ok := files[name]
		if !ok {
			t.Errorf("there is no command line for %s", p)
			continue
		}
		checkFormat(t, "underlane", p, program)
		checkSBOM(t, "underlane", p, program, files)
		if arch, ok := strings.CutPrefix(p, "linux/"); ok {
			if got := output(t, arch, program, "version", "--client", "--short"); got != "v0.2.0\n" {
				t.Errorf("underlane for %s says that it is %q", p, got)
			}
			if got := output(t, arch, program, "install", "--ignore-cluster"); !strings.Contains(got, "/agent:v0.2.0\n") {
				t.Errorf("underlane for %s installs no agent of v0.2.0: %d bytes", p, len(got))
			}
		}
	}
	checkImage(t, files, "agent", "0:0", "amd64", "arm64")
	checkImage(t, files, "controller", "65532:65532", "amd64", "arm64")
}

// checkFormat checks that a program is one of its system and processor, and needs no
// library but those that each such system has.
func checkFormat(t *testing.T, name, platform string, program []byte) {
	t.Helper()
	goos, arch, _ := strings.Cut(platform, "/")
	var err error
	r := bytes.NewReader(program)
	switch goos {
	case "linux":
		err = checkELF(r, map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch])
	case "darwin":
		err = checkMachO(r, map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}[arch])
	case "windows":
		err = checkPE(r, map[string]uint16{"amd64": pe.IMAGE_FILE_MACHINE_AMD64, "arm64": pe.IMAGE_FILE_MACHINE_ARM64}[arch])
	default:
		err = errors.New("nobody knows its format")
	}
	if err != nil {
		t.Errorf("%s for %s: %v", name, platform, err)
	}
}

func checkELF(r *bytes.Reader, machine elf.Machine) error {
	f, err := elf.NewFile(r)
	if err != nil {
		return err
	}
	libraries, err := f.ImportedLibraries()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return err
	}
	interpreted := slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	if f.Machine != machine || len(libraries) > 0 || interpreted {
		return fmt.Errorf("%v, libraries %v, needs a dynamic linker: %v", f.Machine, libraries, interpreted)
	}
	return nil
}

// checkMachO wants a signature for arm64, without which macOS runs nothing there.
func checkMachO(r *bytes.Reader, cpu macho.Cpu) error {
	f, err := macho.NewFile(r)
	if err != nil {
		return err
	}
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	foreign := slices.ContainsFunc(libraries, func(l string) bool {
		return !strings.HasPrefix(l, "/usr/lib/") && !strings.HasPrefix(l, "/System/Library/")
	})
	const codeSignature = 0x1d // LC_CODE_SIGNATURE of mach-o/loader.h
	signed := slices.ContainsFunc(f.Loads, func(l macho.Load) bool { return f.ByteOrder.Uint32(l.Raw()) == codeSignature })
	if f.Cpu != cpu || f.Type != macho.TypeExec || foreign || cpu == macho.CpuArm64 && !signed {
		return fmt.Errorf("%v, %v, libraries %v, signed: %v", f.Cpu, f.Type, libraries, signed)
	}
	return nil
}

func checkPE(r *bytes.Reader, machine uint16) error {
	f, err := pe.NewFile(r)
	if err != nil {
		return err
	}
	header, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	const console = 3 // IMAGE_SUBSYSTEM_WINDOWS_CUI
	if f.Machine != machine || f.Characteristics&pe.IMAGE_FILE_EXECUTABLE_IMAGE == 0 || !ok || header.Subsystem != console {
		return fmt.Errorf("machine %#x, characteristics %#x, %T", f.Machine, f.Characteristics, f.OptionalHeader)
	}
	return nil
}

// output runs a program of Linux. That of another processor runs in qemu's user mode, which
// emulates the processor and passes system calls on.
func output(t *testing.T, arch string, program []byte, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	argv := append([]string{path}, args...)
	if arch != runtime.GOARCH {
		emulator := map[string]string{"arm64": "qemu-aarch64", "amd64": "qemu-x86_64"}[arch]
		if _, err := exec.LookPath(emulator); err != nil {
			t.Fatalf("%v: scripts/deps.sh release installs it", err)
		}
		argv = append([]string{emulator}, argv...)
	}
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = []string{"HOME=" + filepath.Dir(path)}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v for %s: %v: %s", args, arch, err, out)
	}
	return string(out)
}
