package redirect

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// field is a number, or an array of numbers, in a struct that the programs and the agent
// share.
type field struct {
	name     string // with those of the structs around it, and the index in an array of structs
	at, size int    // bytes
}

func (f field) String() string { return fmt.Sprintf("%s@%d+%d", f.name, f.at, f.size) }

// fieldsOf returns the fields of a type, which begins at the byte at. Padding is left out,
// whose name begins with pad.
func fieldsOf(t btf.Type, name string, at int) ([]field, error) {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		var all []field
		for _, m := range t.Members {
			if strings.HasPrefix(m.Name, "pad") {
				continue
			}
			inner, err := fieldsOf(m.Type, name+"."+m.Name, at+int(m.Offset.Bytes()))
			if err != nil {
				return nil, err
			}
			all = append(all, inner...)
		}
		return all, nil
	case *btf.Array:
		if _, ok := btf.UnderlyingType(t.Type).(*btf.Struct); !ok {
			break
		}
		size, err := btf.Sizeof(t.Type)
		if err != nil {
			return nil, err
		}
		var all []field
		for i := range int(t.Nelems) {
			inner, err := fieldsOf(t.Type, fmt.Sprintf("%s[%d]", name, i), at+i*size)
			if err != nil {
				return nil, err
			}
			all = append(all, inner...)
		}
		return all, nil
	}
	size, err := btf.Sizeof(t)
	if err != nil {
		return nil, fmt.Errorf("layout of %s: %w", name, err)
	}
	return []field{{name, at, size}}, nil
}

// contradiction returns two fields, one of each layout, that have a byte or the name in common
// and are not the same. A new field in the padding of the other layout contradicts nothing.
func contradiction(a, b []field) (x, y field, found bool) {
	for _, x := range a {
		for _, y := range b {
			overlap := x.at < y.at+y.size && y.at < x.at+x.size
			if x != y && (overlap || x.name == y.name) {
				return x, y, true
			}
		}
	}
	return field{}, field{}, false
}

// usable returns why the programs of this version cannot use a pinned map, or nil. The kernel
// compares sizes alone. The types of a map tell more. A struct may have new fields where an older
// version had padding, in which case zero has to mean what was so before.
func usable(want *ebpf.MapSpec, m *ebpf.Map) error {
	if err := want.Compatible(m); err != nil {
		return err
	}
	key, value, err := typesOf(m)
	if errors.Is(err, ebpf.ErrNotSupported) {
		return nil // the kernel keeps no types of maps of this kind
	}
	if err != nil {
		return err
	}
	if err := sameFields(want.Key, key); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if err := sameFields(want.Value, value); err != nil {
		return fmt.Errorf("value: %w", err)
	}
	return nil
}

func sameFields(want, have btf.Type) error {
	if want == nil || have == nil {
		return nil
	}
	w, err := fieldsOf(want, "", 0)
	if err != nil {
		return err
	}
	h, err := fieldsOf(have, "", 0)
	if err != nil {
		return err
	}
	if x, y, found := contradiction(h, w); found {
		return fmt.Errorf("%w: has the field %v, and not %v", ebpf.ErrMapIncompatible, x, y)
	}
	return nil
}

// mapInfo is the beginning of the kernel's struct bpf_map_info, up to what is used here.
type mapInfo struct {
	_              [68]byte
	key, value, _3 uint32 // ids of types
}

// typesOf returns the types that the kernel keeps of a map's key and value; nil: it is not a
// type with a name, or of one map only. The error wraps ErrNotSupported if it keeps none.
func typesOf(m *ebpf.Map) (key, value btf.Type, err error) {
	handle, err := m.Handle()
	if err != nil {
		return nil, nil, err
	}
	defer handle.Close()
	types, err := handle.Spec(nil)
	if err != nil {
		return nil, nil, err
	}
	var info mapInfo
	attr := struct {
		fd, size uint32
		info     unsafe.Pointer
	}{uint32(m.FD()), uint32(unsafe.Sizeof(info)), unsafe.Pointer(&info)}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_OBJ_GET_INFO_BY_FD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)); errno != 0 {
		return nil, nil, fmt.Errorf("types of %s: %w", m, errno)
	}
	if key, err = types.TypeByID(btf.TypeID(info.key)); err != nil {
		return nil, nil, err
	}
	value, err = types.TypeByID(btf.TypeID(info.value))
	return key, value, err
}
