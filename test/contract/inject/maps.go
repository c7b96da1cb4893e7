package inject

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// bounded are the maps that have an entry for each pod or connection. All others are of a
// fixed size.
var bounded = []string{"pods", "original_dsts", "peer_names", "host_flows", "inner_flows"}

// FillMaps fills the maps below pins, the agent's --pin-root on a node, to their bounds,
// with entries of no pod. From maps of the kind LRU the kernel takes out an old entry for
// each new one then. empty removes what is left of the entries.
func FillMaps(pins string) (empty func() error, err error) {
	var filled []*ebpf.Map
	empty = func() (err error) {
		for _, m := range filled {
			err = errors.Join(err, drain(m), m.Close())
		}
		return err
	}
	for _, name := range bounded {
		m, err := ebpf.LoadPinnedMap(filepath.Join(pins, name), nil)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("map %s: %w", name, err), empty())
		}
		filled = append(filled, m)
		if err := fill(m); err != nil {
			return nil, errors.Join(fmt.Errorf("map %s: %w", name, err), empty())
		}
	}
	return empty, nil
}

// fill makes as many entries as the map has room for.
func fill(m *ebpf.Map) error {
	value := make([]byte, m.ValueSize())
	for i := range m.MaxEntries() {
		err := m.Put(key(m, i), value)
		if errors.Is(err, unix.E2BIG) {
			return nil // it has entries of pods
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// key is an entry's key: it begins like the cookie of no namespace, or like an address that
// no pod has.
func key(m *ebpf.Map, i uint32) []byte {
	b := make([]byte, m.KeySize())
	for at := range 4 {
		b[at] = 0xff
	}
	binary.LittleEndian.PutUint32(b[4:], i)
	return b
}

func drain(m *ebpf.Map) error {
	for i := range m.MaxEntries() {
		if err := m.Delete(key(m, i)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
	}
	return nil
}
