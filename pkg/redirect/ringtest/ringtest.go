// Package ringtest fills the ring buffers that the kernel's programs write, for tests and
// benchmarks of those who read them: with records that a test makes, and as many a second as it
// wants, which no traffic of a test could bring about.
package ringtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// MaxRecord is the length of the longest record, in bytes.
const MaxRecord = 1023

// None is the offset of a field that records do not have.
const None = -1

// Layout says where fields of the records are that are new in each record. Offsets are in bytes.
type Layout struct {
	Time int // 8 bytes: CLOCK_MONOTONIC, in nanoseconds
	Seq  int // 4 bytes, which grow by Record.Step whenever the record is written again
}

// Record is one that is written again and again.
type Record struct {
	Data    []byte // up to MaxRecord bytes
	Step    uint32
	Streams []int // offsets of up to maxStreams numbers of streams of HTTP/2, which grow by 2
}

const maxStreams = 3

// Writer writes records into a ring buffer, in turn, by a program of its own.
type Writer struct {
	prog  *ebpf.Program
	state *ebpf.Map
}

// The parts of an entry of the queue: the length of the record, its step, where it has numbers of
// streams (0: nowhere), and the record.
const (
	lengthAt  = 0
	stepAt    = 4
	streamsAt = 8
	recordAt  = streamsAt + 4*maxStreams + 4
	entrySize = recordAt + MaxRecord + 9 // room after the record, so that each offset in it is valid
)

// The parts of the state: which record is next, and how many were written, and were not because
// the ring buffer was full.
const (
	nextAt    = 0
	writtenAt = 8
	lostAt    = 16
	stateSize = 24
)

// New makes a Writer for the ring buffer of this process that has a name.
func New(tb testing.TB, ring string, layout Layout, records []Record) *Writer {
	tb.Helper()
	into := find(tb, ring)
	newMap := func(spec *ebpf.MapSpec) *ebpf.Map {
		m, err := ebpf.NewMap(spec)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { m.Close() })
		return m
	}
	queue := newMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: entrySize, MaxEntries: uint32(len(records))})
	state := newMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: stateSize, MaxEntries: 1})
	for i, r := range records {
		if len(r.Data) > MaxRecord || len(r.Streams) > maxStreams {
			tb.Fatalf("a record of %d bytes with %d streams: %d and %d are the limits", len(r.Data), len(r.Streams), MaxRecord, maxStreams)
		}
		entry := make([]byte, entrySize)
		binary.NativeEndian.PutUint32(entry[lengthAt:], uint32(len(r.Data)))
		binary.NativeEndian.PutUint32(entry[stepAt:], r.Step)
		for j, at := range r.Streams {
			binary.NativeEndian.PutUint32(entry[streamsAt+4*j:], uint32(at))
		}
		copy(entry[recordAt:], r.Data)
		if err := queue.Put(uint32(i), entry); err != nil {
			tb.Fatal(err)
		}
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL", Instructions: program(into.FD(), queue.FD(), state.FD(), len(records), layout),
	})
	if err != nil {
		tb.Fatalf("%+v", err)
	}
	tb.Cleanup(func() { prog.Close() })
	return &Writer{prog: prog, state: state}
}

// program writes one record.
func program(ring, queue, state, records int, layout Layout) asm.Instructions {
	list := asm.Instructions{
		asm.LoadMapValue(asm.R6, state, 0),
		asm.LoadMem(asm.R1, asm.R6, nextAt, asm.DWord),
		asm.JLT.Imm(asm.R1, int32(records), "known"),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, -4, asm.R1, asm.Word).WithSymbol("known"),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R6, nextAt, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, queue),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.Mov.Reg(asm.R7, asm.R0),
	}
	if layout.Time != None {
		list = append(list,
			asm.FnKtimeGetNs.Call(),
			asm.StoreMem(asm.R7, int16(recordAt+layout.Time), asm.R0, asm.DWord),
		)
	}
	list = append(list,
		asm.LoadMapPtr(asm.R1, ring),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Add.Imm(asm.R2, recordAt),
		asm.LoadMem(asm.R3, asm.R7, lengthAt, asm.Word),
		asm.And.Imm(asm.R3, MaxRecord),
		asm.Mov.Imm(asm.R4, 1), // BPF_RB_NO_WAKEUP
		asm.FnRingbufOutput.Call(),
	)
	if layout.Seq != None {
		list = append(list,
			asm.LoadMem(asm.R1, asm.R7, stepAt, asm.Word),
			asm.LoadMem(asm.R2, asm.R7, int16(recordAt+layout.Seq), asm.Word),
			asm.Add.Reg(asm.R2, asm.R1),
			asm.StoreMem(asm.R7, int16(recordAt+layout.Seq), asm.R2, asm.Word),
		)
	}
	for i := range maxStreams {
		next := fmt.Sprintf("stream%d", i)
		list = append(list,
			asm.LoadMem(asm.R1, asm.R7, int16(streamsAt+4*i), asm.Word),
			asm.And.Imm(asm.R1, MaxRecord),
			asm.JEq.Imm(asm.R1, 0, next),
			asm.Mov.Reg(asm.R2, asm.R7),
			asm.Add.Reg(asm.R2, asm.R1),
			asm.LoadMem(asm.R3, asm.R2, recordAt, asm.Word),
			asm.HostTo(asm.BE, asm.R3, asm.Word),
			asm.Add.Imm(asm.R3, 2),
			asm.HostTo(asm.BE, asm.R3, asm.Word),
			asm.StoreMem(asm.R2, recordAt, asm.R3, asm.Word),
			asm.Mov.Reg(asm.R1, asm.R1).WithSymbol(next),
		)
	}
	count := func(at int16) asm.Instructions {
		return asm.Instructions{
			asm.LoadMem(asm.R1, asm.R6, at, asm.DWord),
			asm.Add.Imm(asm.R1, 1),
			asm.StoreMem(asm.R6, at, asm.R1, asm.DWord),
		}
	}
	list = append(list, asm.JNE.Imm(asm.R0, 0, "lost"))
	list = append(append(list, count(writtenAt)...), asm.Ja.Label("end"))
	lost := count(lostAt)
	lost[0] = lost[0].WithSymbol("lost")
	return append(append(list, lost...), asm.Mov.Imm(asm.R0, 0).WithSymbol("end"), asm.Return())
}

// find returns the ring buffer of this process that has a name.
func find(tb testing.TB, name string) *ebpf.Map {
	tb.Helper()
	files, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil {
		tb.Fatal(err)
	}
	found := make(map[ebpf.MapID]*ebpf.Map)
	for _, file := range files {
		id, ok := mapID(file)
		if !ok || found[id] != nil {
			continue
		}
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue // it was closed meanwhile
		}
		if info, err := m.Info(); err != nil || info.Type != ebpf.RingBuf || info.Name != name {
			m.Close()
			continue
		}
		tb.Cleanup(func() { m.Close() })
		found[id] = m
	}
	if len(found) != 1 {
		tb.Fatalf("this process has %d ring buffers with the name %s, want one", len(found), name)
	}
	for _, m := range found {
		return m
	}
	return nil
}

// mapID reads what the kernel says of a file descriptor.
func mapID(file string) (ebpf.MapID, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "map_id:"); ok {
			id, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
			return ebpf.MapID(id), err == nil
		}
	}
	return 0, false
}

// Write writes the next n records.
func (w *Writer) Write(n int) error {
	_, err := w.prog.Run(&ebpf.RunOptions{Data: make([]byte, 64), Repeat: uint32(n)})
	if err != nil {
		return fmt.Errorf("write %d records: %w", n, err)
	}
	return nil
}

// Counts returns how many records were written, and how many were not because the ring buffer was
// full.
func (w *Writer) Counts() (written, lost uint64, err error) {
	var state [stateSize]byte
	if err := w.state.Lookup(uint32(0), &state); err != nil {
		return 0, 0, fmt.Errorf("count records: %w", err)
	}
	return binary.NativeEndian.Uint64(state[writtenAt:]), binary.NativeEndian.Uint64(state[lostAt:]), nil
}

// Pace writes a number of records, so many in a second, and returns the processor time of the thread,
// which the caller has to itself. What is late is made up for. It stops early when ctx is done.
func (w *Writer) Pace(ctx context.Context, n, rate int) (spent time.Duration, err error) {
	began, before := time.Now(), threadTime()
	for done := 0; done < n && ctx.Err() == nil; {
		due := min(n, int(time.Since(began).Seconds()*float64(rate)))
		if due > done {
			if err := w.Write(due - done); err != nil {
				return 0, err
			}
			done = due
		}
		// A sleep of the runtime would be for its timers to end.
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &unix.Timespec{Nsec: 500_000}, nil)
	}
	return threadTime() - before, nil
}

func threadTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // it cannot fail
	return time.Duration(t.Nano())
}

// Cost is what reading records has cost.
type Cost struct {
	Spent         time.Duration // processor time of the process, without the writer's
	Took          time.Duration
	Written, Lost uint64
}

// Add adds the cost of more records.
func (c *Cost) Add(more Cost) {
	c.Spent, c.Took, c.Written, c.Lost = c.Spent+more.Spent, c.Took+more.Took, c.Written+more.Written, c.Lost+more.Lost
}

// Report reports the cost of a record, and of its parts if it has some.
func (c *Cost) Report(b *testing.B) {
	b.ReportMetric(float64(c.Spent)/float64(c.Written), "cpu-ns/record")
	b.ReportMetric(float64(c.Written)/c.Took.Seconds(), "records/s")
	b.ReportMetric(float64(c.Lost), "lost")
}

// Rate writes n records, rate of them in a second, and waits until read says that the reader has all
// that were not lost. If some were lost, it does not wait.
func (w *Writer) Rate(tb testing.TB, n, rate int, read func(written uint64) bool) Cost {
	tb.Helper()
	return w.cost(tb, read, func() (time.Duration, error) { return w.Pace(tb.Context(), n, rate) })
}

// Portions writes n records, each at once, and waits after these until read says that the reader has
// them. None is lost if the ring buffer has room for each, however slow the machine is.
func (w *Writer) Portions(tb testing.TB, n, each int, read func(written uint64) bool) (all Cost) {
	tb.Helper()
	for range n / each {
		all.Add(w.cost(tb, read, func() (time.Duration, error) {
			before := threadTime()
			err := w.Write(each)
			return threadTime() - before, err
		}))
	}
	return all
}

// cost calls write on a thread of its own, which returns the processor time of that.
func (w *Writer) cost(tb testing.TB, read func(written uint64) bool, write func() (time.Duration, error)) (c Cost) {
	tb.Helper()
	before, lost, err := w.Counts()
	if err != nil {
		tb.Fatal(err)
	}
	began, used := time.Now(), processTime()
	var own time.Duration
	var writing sync.WaitGroup
	writing.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if own, err = write(); err != nil {
			tb.Error(err)
		}
	})
	writing.Wait()
	c.Took = time.Since(began)
	if c.Written, c.Lost, err = w.Counts(); err != nil {
		tb.Fatal(err)
	}
	c.Written, c.Lost = c.Written-before, c.Lost-lost
	for end := time.Now().Add(time.Minute); c.Lost == 0 && !read(c.Written); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("the reader has not read all of %d records after a minute", c.Written)
		}
	}
	c.Spent = processTime() - used - own
	return c
}

func processTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // it cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
