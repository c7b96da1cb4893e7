package kernels

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// wanted are the modules that the tests use, where they are not built into the kernel: the
// network of the lab, its Services, and lists of sockets.
var wanted = []string{
	"veth", "bridge", "tcp_diag", "inet_diag", "nf_tables", "nft_chain_nat", "nft_nat", "nft_masq", "nft_reject_inet", "nft_numgen", "nf_nat", "nf_conntrack",
}

// module is a file of a module, unpacked.
type module struct {
	name string
	data []byte
}

// load reads the wanted modules and those that they need, in the order in which a kernel
// takes them. missing are those that the kernel neither has nor has built in.
func (k *kernel) load(wanted []string) (list []module, missing []string, err error) {
	if k.modules == "" {
		return nil, nil, nil // of a kernel that somebody has built with all that it needs
	}
	files, err := moduleFiles(k.modules)
	if err != nil {
		return nil, nil, err
	}
	builtin, err := os.ReadFile(filepath.Join(k.modules, "modules.builtin"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	inside := map[string]bool{}
	for line := range strings.Lines(string(builtin)) {
		inside[moduleName(strings.TrimSpace(line))] = true
	}
	done := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		if done[name] || inside[name] {
			return nil
		}
		done[name] = true
		file, ok := files[name]
		if !ok {
			missing = append(missing, name)
			return nil
		}
		data, err := readModule(file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		needs, err := dependencies(data)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return err
			}
		}
		list = append(list, module{name, data})
		return nil
	}
	for _, name := range wanted {
		if err := add(name); err != nil {
			return nil, nil, err
		}
	}
	return list, missing, nil
}

// moduleFiles lists the modules below a directory by name.
func moduleFiles(dir string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(d.Name(), ".ko") {
			files[moduleName(path)] = path
		}
		return err
	})
	return files, err
}

// moduleName returns a module's name: nf_nat of net/netfilter/nf-nat.ko.xz.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func readModule(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	switch filepath.Ext(file) {
	case ".xz":
		return filter(data, "xz", "-dcq")
	case ".zst":
		return filter(data, "zstd", "-dcq")
	case ".gz":
		return filter(data, "gzip", "-dcq")
	}
	return data, nil
}

// dependencies reads the names of the modules that a module needs from its section .modinfo,
// which has texts like depends=nf_nat,nf_tables. A package has no modules.dep: depmod makes
// that where it is installed.
func dependencies(data []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, errors.New("it has no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for text := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := strings.CutPrefix(string(text), "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
