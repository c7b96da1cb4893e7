package redirect

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ring reads a ring buffer of the programs. It never waits. Only one goroutine may use it, and
// only one process may read a ring buffer.
//
// All pages of a ring buffer that are mapped count for the process, twice where the whole is
// mapped as libraries do it: 8 MiB for one of 4 MiB. So only the page of each position is
// mapped, and a window of the data that moves along. To move it costs two system calls, which add
// to each record half of what reading it costs: while there is much to read, the whole is mapped.
type ring struct {
	fd                 int
	size               uint64         // of the data, a power of two
	consumer, producer *atomic.Uint64 // positions, which only grow
	pages              [2][]byte      // the mappings that have the positions
	window             []byte
	from               uint64 // position of the first byte of window
	whole              []byte // nil: only window is mapped
	got                bool   // a record, since read has found nothing the last time
	moves              int    // of window since then there was nothing at all
	rests              int    // how often there was nothing at all, one after the other
}

// The parts of a record's header, which is two words (struct bpf_ringbuf_hdr of the kernel). The
// second one is the kernel's own.
const (
	recordHeader  = 8
	recordBusy    = 1 << 31 // it is being written
	recordDiscard = 1 << 30 // it is to be skipped
)

const (
	ringWindow = 128 << 10 // bytes of a ring buffer that are mapped, at least
	busyMoves  = 8         // after which the whole is mapped
	quietRests = 200       // after which it is not any more
)

func openRing(m *ebpf.Map) (*ring, error) {
	r := &ring{fd: m.FD(), size: uint64(m.MaxEntries())}
	for i, access := range []int{unix.PROT_READ | unix.PROT_WRITE, unix.PROT_READ} {
		page, err := unix.Mmap(r.fd, int64(i*os.Getpagesize()), os.Getpagesize(), access, unix.MAP_SHARED)
		if err != nil {
			r.close()
			return nil, fmt.Errorf("map the positions of %s: %w", m, err)
		}
		r.pages[i] = page
	}
	r.consumer = (*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(r.pages[0])))
	r.producer = (*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(r.pages[1])))
	return r, nil
}

// close unmaps everything. The map stays open.
func (r *ring) close() {
	for _, mapped := range [][]byte{r.pages[0], r.pages[1], r.window, r.whole} {
		if mapped != nil {
			_ = unix.Munmap(mapped)
		}
	}
	*r = ring{}
}

// empty reports whether there is nothing to read. It makes no system call while there is not.
func (r *ring) empty() bool {
	if r.consumer.Load() != r.producer.Load() {
		return false
	}
	r.rest()
	return true
}

// rest is called when there is nothing to read.
func (r *ring) rest() {
	if r.got {
		r.got, r.rests = false, 0
		return // it has been read
	}
	r.moves = 0
	if r.rests++; r.rests >= quietRests && r.whole != nil {
		_ = unix.Munmap(r.whole) // it is mapped, and so can be unmapped
		r.whole = nil
	}
}

// read calls handle for the next record, which is valid during the call. It returns false if
// there is none yet.
func (r *ring) read(handle func(record []byte)) (bool, error) {
	for {
		at := r.consumer.Load()
		if at == r.producer.Load() {
			r.rest()
			return false, nil
		}
		head, err := r.bytes(at, recordHeader)
		if err != nil {
			return false, err
		}
		word := (*atomic.Uint32)(unsafe.Pointer(unsafe.SliceData(head))).Load()
		if word&recordBusy != 0 {
			return false, nil
		}
		length := uint64(word &^ uint32(recordDiscard))
		record, err := r.bytes(at, recordHeader+length)
		if err != nil {
			return false, err
		}
		discarded := word&recordDiscard != 0
		if !discarded {
			handle(record[recordHeader:])
		}
		r.consumer.Store(at + (recordHeader+length+7)&^7)
		if !discarded {
			r.got = true
			return true, nil
		}
	}
}

// bytes returns n bytes at a position. They are in one piece also at the end of the data, after
// which the kernel has mapped its beginning again.
func (r *ring) bytes(at, n uint64) ([]byte, error) {
	if r.whole != nil && n <= r.size {
		return r.whole[at%r.size:][:n], nil
	}
	if skip := at - r.from; skip < uint64(len(r.window)) && n <= uint64(len(r.window))-skip {
		return r.window[skip:][:n], nil
	}
	if n > r.size {
		return nil, fmt.Errorf("a record of %d bytes in a ring buffer of %d", n, r.size)
	}
	if r.window != nil {
		if err := unix.Munmap(r.window); err != nil {
			return nil, fmt.Errorf("move the window of a ring buffer: %w", err)
		}
		r.window = nil
	}
	page := uint64(os.Getpagesize())
	if r.moves++; r.moves > busyMoves {
		whole, err := unix.Mmap(r.fd, int64(2*page), int(2*r.size), unix.PROT_READ, unix.MAP_SHARED)
		if err == nil {
			r.whole, r.rests = whole, 0
			return r.whole[at%r.size:][:n], nil
		}
	}
	skip := at % page
	begin := at%r.size - skip
	length := min((skip+max(n, ringWindow)+page-1)&^(page-1), 2*r.size-begin)
	window, err := unix.Mmap(r.fd, int64(2*page+begin), int(length), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("move the window of a ring buffer: %w", err)
	}
	r.window, r.from = window, at-skip
	return r.window[skip:][:n], nil
}
