package redirect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
)

// layoutNumber is the checksum of a struct's fields and of the values of enums.
func layoutNumber(t *testing.T, types *btf.Spec, name string, enums ...string) uint32 {
	t.Helper()
	var s *btf.Struct
	if err := types.TypeByName(name, &s); err != nil {
		t.Fatal(err)
	}
	all, err := fieldsOf(s, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(s.Size, all)
	for _, name := range enums {
		var e *btf.Enum
		if err := types.TypeByName(name, &e); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprint(e.Values)
	}
	return crc32.ChecksumIEEE([]byte(text)) & 0x7fffffff // a C enum's values are signed
}

// TestLayouts: the numbers of enum layout are those of the structs.
func TestLayouts(t *testing.T) {
	spec, err := bpf.LoadUnderlane()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []struct {
		name, of string
		have     bpf.UnderlaneLayout
		enums    []string
	}{
		{"LAYOUT_EVENT", "event", bpf.UnderlaneLayoutLAYOUT_EVENT, []string{"event_kind", "server"}},
		{"LAYOUT_DNS_ANSWER", "dns_answer", bpf.UnderlaneLayoutLAYOUT_DNS_ANSWER, []string{"dns_room"}},
	} {
		if want := layoutNumber(t, spec.Types, l.of, l.enums...); uint32(l.have) != want {
			t.Errorf("struct %s has changed: set %s to %#x in bpf/include/underlane.h, which is %#x, and run make generate", l.of, l.name, want, l.have)
		}
	}
}

// TestMapsWithoutTypes: of these maps the kernel keeps no types, so that an agent does not see
// when their keys are laid out differently. A change needs a map of another name.
func TestMapsWithoutTypes(t *testing.T) {
	spec, err := bpf.LoadUnderlane()
	if err != nil {
		t.Fatal(err)
	}
	const want = "[.netns_cookie@0+8 .kind@8+4]"
	key, err := fieldsOf(spec.Maps[bpf.UnderlaneMapListeners].Key, "", 0)
	if got := fmt.Sprint(key); err != nil || got != want {
		t.Errorf("the key of listeners is %s, %v; was %s", got, err, want)
	}
	r := newRig(t, mesh.Settings{})
	for name, m := range spec.Maps {
		if m.Pinning != ebpf.PinByName || m.Type == ebpf.RingBuf || m.Type == ebpf.SockHash {
			continue
		}
		pinned, err := ebpf.LoadPinnedMap(filepath.Join(r.options.PinRoot, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := typesOf(pinned); err != nil {
			t.Errorf("the types of %s: %v", name, err)
		}
		pinned.Close()
	}
}

// rewritten returns a copy of a struct type, with the members that change makes of its own.
func rewritten(t btf.Type, change func([]btf.Member) []btf.Member) btf.Type {
	s := *t.(*btf.Struct)
	s.Members = change(slices.Clone(s.Members))
	return &s
}

func swap(a, b int) func([]btf.Member) []btf.Member {
	return func(m []btf.Member) []btf.Member {
		m[a].Name, m[b].Name = m[b].Name, m[a].Name
		return m
	}
}

func pinMap(t *testing.T, root string, spec *ebpf.MapSpec) {
	t.Helper()
	m, err := ebpf.NewMapWithOptions(spec, ebpf.MapOptions{PinPath: root})
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
}

// TestLayoutOfPinnedMaps: a map of the same sizes whose fields are others is not taken over; one
// that has a field less, where this version has padding or the other way round, is.
func TestLayoutOfPinnedMaps(t *testing.T) {
	nstest.RequireRoot(t)
	all, err := bpf.LoadUnderlane()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		of     string
		change func(m *ebpf.MapSpec)
		kept   bool
	}{
		"the same":                    {bpf.UnderlaneMapHostFlows, func(*ebpf.MapSpec) {}, true},
		"a field where padding is":    {bpf.UnderlaneMapPeerNames, func(m *ebpf.MapSpec) { m.Value = rewritten(m.Value, swap(1, 2)) }, false},
		"fields of the value swapped": {bpf.UnderlaneMapAgent, func(m *ebpf.MapSpec) { m.Value = rewritten(m.Value, swap(0, 1)) }, false},
		"fields of the key swapped":   {bpf.UnderlaneMapHostFlows, func(m *ebpf.MapSpec) { m.Key = rewritten(m.Key, swap(0, 1)) }, false},
		"a struct where a number is": {bpf.UnderlaneMapInnerFlows, func(m *ebpf.MapSpec) {
			m.Value = &btf.Struct{Name: "s", Size: 8, Members: []btf.Member{{Name: "a", Type: m.Value}}}
		}, false},
		"of another size":             {bpf.UnderlaneMapPaths, func(m *ebpf.MapSpec) { m.Value, m.ValueSize = nil, 8 }, false},
		"a field of the value is new": {bpf.UnderlaneMapHostFlows, func(m *ebpf.MapSpec) { m.Value = rewritten(m.Value, rename(1, "pad1")) }, true},
		"a field of the key is new":   {bpf.UnderlaneMapHostFlows, func(m *ebpf.MapSpec) { m.Key = rewritten(m.Key, rename(2, "pad1")) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			root := nstest.BPFFS(t)
			if err := os.MkdirAll(root, 0o700); err != nil {
				t.Fatal(err)
			}
			m := all.Maps[c.of].Copy()
			c.change(m)
			pinMap(t, root, m)
			before := mapID(t, filepath.Join(root, c.of))
			d, err := Load(Options{CgroupRoot: nstest.Cgroup(t), PinRoot: root, HeartbeatTimeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Cleanup()
			if kept := mapID(t, filepath.Join(root, c.of)) == before; kept != c.kept {
				t.Errorf("kept: %v, want %v", kept, c.kept)
			}
		})
	}
}

func rename(i int, name string) func([]btf.Member) []btf.Member {
	return func(m []btf.Member) []btf.Member {
		m[i].Name = name
		return m
	}
}

func mapID(t *testing.T, pin string) ebpf.MapID {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(pin, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, ok := info.ID()
	if !ok {
		t.Fatal("the kernel does not say the id of a map")
	}
	return id
}

func record(t *testing.T, v any, more int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := binary.Write(&b, binary.NativeEndian, v); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), make([]byte, more)...)
}

// TestEventsOfAnotherVersion: records of another layout, or of another size, are not read, and
// are counted.
func TestEventsOfAnotherVersion(t *testing.T) {
	r, seen := dnsRig(t)
	events, messages := newRingWriter(t, r.d.objs.Events), newRingWriter(t, r.d.objs.DnsAnswers)
	good := bpf.UnderlaneEvent{Layout: uint32(bpf.UnderlaneLayoutLAYOUT_EVENT), Kind: uint8(EventRefused), NetnsCookie: 1}
	other := good
	other.Layout++
	other.NetnsCookie = 2
	head := int(unsafe.Sizeof(good))
	for _, b := range [][]byte{record(t, other, 0), record(t, good, 8), record(t, good, 0)[:head-8], make([]byte, head), record(t, good, 0)} {
		events.put(t, b)
	}
	if e := readEvents(t, r)(EventRefused); e.NetnsCookie != good.NetnsCookie {
		t.Errorf("read %+v", e)
	}

	answer := bpf.UnderlaneDnsAnswer{Layout: uint32(bpf.UnderlaneLayoutLAYOUT_DNS_ANSWER), Length: 3, NetnsCookie: 1}
	otherAnswer, long := answer, answer
	otherAnswer.Layout--
	long.Length = 513
	for _, b := range [][]byte{record(t, otherAnswer, 512), record(t, answer, 511), record(t, answer, 1240), record(t, long, 512), record(t, answer, 512), record(t, answer, 1232)} {
		messages.put(t, b)
	}
	if got := answers(t, seen, 1); len(got) != 2 || len(got[0]) != 3 {
		t.Errorf("read %q, want two messages of three bytes", got)
	}
	if c := counters(t, r); c["event-unknown"] != 4 || c["dns-unknown"] != 4 {
		t.Errorf("counted %v, want 4 events and 4 answers", c)
	}
}
