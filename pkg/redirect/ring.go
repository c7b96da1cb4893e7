package redirect

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ring reads the records of a BPF ring buffer in place, without a copy and without a system
// call. (ringbuf.Reader of cilium/ebpf copies each record, and takes a lock for it.) One
// goroutine uses it at a time.
type ring struct {
	consumer, producer []byte   // mappings
	read, written      *uintptr // positions, in bytes; the first is ours, the other the kernel's
	data               []byte   // twice in a row, so that no record is in two parts
	mask               uintptr
}

// Bits of the length in a record's header, which has ringHeader bytes (BPF_RINGBUF_* of
// include/uapi/linux/bpf.h).
const (
	ringBusy    = 1 << 31
	ringDiscard = 1 << 30
	ringHeader  = 8
)

var errRing = errors.New("ring buffer: a record is longer than what was written")

func openRing(m *ebpf.Map) (*ring, error) {
	page, size := os.Getpagesize(), int(m.MaxEntries())
	consumer, err := unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the reader's position of a ring buffer: %w", err)
	}
	producer, err := unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		_ = unix.Munmap(consumer)
		return nil, fmt.Errorf("map a ring buffer: %w", err)
	}
	return &ring{
		consumer: consumer, producer: producer,
		read: (*uintptr)(unsafe.Pointer(&consumer[0])), written: (*uintptr)(unsafe.Pointer(&producer[0])),
		data: producer[page:], mask: uintptr(size - 1),
	}, nil
}

func (r *ring) close() {
	_ = unix.Munmap(r.consumer)
	_ = unix.Munmap(r.producer)
}

func (r *ring) empty() bool { return atomic.LoadUintptr(r.read) == atomic.LoadUintptr(r.written) }

// each calls handle for the records that there are, most of them at most, and returns how many
// there were. A record is valid during the call. each ends early at a record that the kernel is
// writing.
func (r *ring) each(most int, handle func(sample []byte)) (n int, err error) {
	at, end := atomic.LoadUintptr(r.read), atomic.LoadUintptr(r.written)
	for n < most {
		if at == end {
			if end = atomic.LoadUintptr(r.written); at == end {
				break
			}
		}
		record := r.data[at&r.mask:]
		// The kernel clears ringBusy after it has written the record.
		length := atomic.LoadUint32((*uint32)(unsafe.Pointer(&record[0])))
		if length&ringBusy != 0 {
			break
		}
		size := uintptr(length &^ ringDiscard)
		next := at + ringHeader + (size+7)&^7
		if next-at > end-at {
			return n, errRing
		}
		if length&ringDiscard == 0 {
			handle(record[ringHeader : ringHeader+size : ringHeader+size])
			n++
		}
		at = next
		atomic.StoreUintptr(r.read, at)
	}
	return n, nil
}
