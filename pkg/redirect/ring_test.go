package redirect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"

	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
)

// ringWriter writes records into a ring buffer, by programs of its own.
type ringWriter struct {
	data             *ebpf.Map // the length of a record, and the record
	output, discards *ebpf.Program
}

const longestRecord = 2047

func newRingWriter(t testing.TB, ring *ebpf.Map) *ringWriter {
	t.Helper()
	w := &ringWriter{}
	var err error
	w.data, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4 + longestRecord + 1, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	load := func(more ...asm.Instruction) *ebpf.Program {
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: append(asm.Instructions{
			asm.StoreImm(asm.RFP, -4, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, w.data.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "end"),
		}, append(more, asm.Return().WithSymbol("end"))...)})
		if err != nil {
			t.Fatalf("%+v", err)
		}
		t.Cleanup(func() { prog.Close() })
		return prog
	}
	t.Cleanup(func() { w.data.Close() })
	w.output = load(
		asm.LoadMem(asm.R3, asm.R0, 0, asm.Word),
		asm.And.Imm(asm.R3, longestRecord),
		asm.Mov.Reg(asm.R2, asm.R0),
		asm.Add.Imm(asm.R2, 4),
		asm.LoadMapPtr(asm.R1, ring.FD()),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
	)
	w.discards = load(
		asm.LoadMapPtr(asm.R1, ring.FD()),
		asm.Mov.Imm(asm.R2, 40),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnRingbufReserve.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRingbufDiscard.Call(),
		asm.Mov.Imm(asm.R0, 0),
	)
	return w
}

// put writes a record.
func (w *ringWriter) put(t testing.TB, record []byte) {
	t.Helper()
	if !w.try(t, record) {
		t.Fatal("the ring buffer is full")
	}
}

func (w *ringWriter) try(t testing.TB, record []byte) bool {
	t.Helper()
	value := make([]byte, 4+longestRecord+1)
	binary.NativeEndian.PutUint32(value, uint32(len(record)))
	copy(value[4:], record)
	if err := w.data.Put(uint32(0), value); err != nil {
		t.Fatal(err)
	}
	got, err := w.output.Run(&ebpf.RunOptions{Data: make([]byte, 64)})
	if err != nil {
		t.Fatal(err)
	}
	return got == 0
}

// discard takes room for a record and gives it up.
func (w *ringWriter) discard(t testing.TB) {
	t.Helper()
	if _, err := w.discards.Run(&ebpf.RunOptions{Data: make([]byte, 64)}); err != nil {
		t.Fatal(err)
	}
}

func newRing(t testing.TB, size int) (*ring, *ringWriter) {
	t.Helper()
	nstest.RequireRoot(t)
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "ring", Type: ebpf.RingBuf, MaxEntries: uint32(size)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := openRing(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.close()
		m.Close()
	})
	return r, newRingWriter(t, m)
}

// TestRing: records of all lengths are read in order and whole, over the end of the data and
// where the window moves; those that were discarded are not; and a full ring buffer has room again
// when it was read.
func TestRing(t *testing.T) {
	for _, size := range []int{os.Getpagesize(), 4 * ringWindow} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			r, w := newRing(t, size)
			random := rand.New(rand.NewPCG(1, uint64(size)))
			var want [][]byte
			next := 0
			check := func(record []byte) {
				if !bytes.Equal(record, want[next]) {
					t.Fatalf("record %d has %d bytes, want %d, or they are others", next, len(record), len(want[next]))
				}
				next++
			}
			drain := func() {
				for {
					more, err := r.read(check)
					if err != nil {
						t.Fatal(err)
					}
					if !more {
						break
					}
				}
				if next != len(want) {
					t.Fatalf("read %d records, want %d", next, len(want))
				}
				if !r.empty() {
					t.Fatal("it is not empty when all was read")
				}
			}
			full := 0
			for written := 0; written < 5*size; {
				record := make([]byte, 1+random.IntN(longestRecord))
				for i := range record {
					record[i] = byte(random.Uint32())
				}
				if !w.try(t, record) {
					full++
					drain()
					continue
				}
				want = append(want, record)
				written += len(record)
				if random.IntN(4) == 0 {
					w.discard(t)
				}
				if random.IntN(2000) == 0 {
					drain()
				}
			}
			drain()
			if full == 0 {
				t.Error("it was never full: this shows too little")
			}
		})
	}
}

// TestRingMemory: of a ring buffer of 4 MiB little is mapped, also after all of it was used. The
// whole is mapped while there is always something to read.
func TestRingMemory(t *testing.T) {
	const size = 4 << 20
	r, w := newRing(t, size)
	record := make([]byte, longestRecord)
	mapped := func() int { return len(r.window) + len(r.whole) + 2*os.Getpagesize() }
	use := func(rests int) {
		for range 2 * size / longestRecord {
			w.put(t, record)
			if more, err := r.read(func([]byte) {}); !more || err != nil {
				t.Fatal(more, err)
			}
			for range rests {
				if !r.empty() {
					t.Fatal("it is not empty when all was read")
				}
			}
		}
	}
	use(2)
	if n := mapped(); n > 256<<10 {
		t.Errorf("%d bytes are mapped, want 256 KiB at most", n)
	}
	use(0)
	if n := mapped(); n < 2*size {
		t.Errorf("%d bytes are mapped of one that is never empty, want the whole, twice", n)
	}
	for range quietRests + 1 {
		r.empty()
	}
	use(2)
	if n := mapped(); n > 256<<10 {
		t.Errorf("%d bytes are mapped after a pause, want 256 KiB at most", n)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(maps), "anon_inode:bpf-map"); n != 3 {
		t.Errorf("%d parts of ring buffers are mapped, want the positions and a window", n)
	}
}

// BenchmarkRing reads records of the length of an event.
func BenchmarkRing(b *testing.B) {
	r, w := newRing(b, 4<<20)
	record := make([]byte, 136)
	b.ReportAllocs()
	for read := 0; read < b.N; {
		b.StopTimer()
		for w.try(b, record) {
		}
		b.StartTimer()
		for {
			more, err := r.read(func([]byte) {})
			if err != nil {
				b.Fatal(err)
			}
			if !more {
				break
			}
			read++
		}
	}
}
