package ringtest

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
)

// TestWriter: records are written in turn, with new times, sequence numbers and streams; those
// that do not fit are counted.
func TestWriter(t *testing.T) {
	nstest.RequireRoot(t)
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "ringtest", Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	reader, err := ringbuf.NewReader(m)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	reader.SetDeadline(time.Now()) // it reads what is there, and waits for nothing
	w := New(t, "ringtest", Layout{Time: 0, Seq: 8}, []Record{
		{Data: make([]byte, 16), Step: 5},
		{Data: append(make([]byte, 16), 0, 0, 0, 0, 3, 0, 1, 255, 255), Step: 7, Streams: []int{17, 21}},
	})
	const each = 3
	if err := w.Write(2 * each); err != nil {
		t.Fatal(err)
	}
	var last uint64
	for i := range uint32(each) {
		for which, step := range []uint32{5, 7} {
			r, err := reader.Read()
			if err != nil {
				t.Fatal(err)
			}
			at, seq := binary.NativeEndian.Uint64(r.RawSample), binary.NativeEndian.Uint32(r.RawSample[8:])
			if at <= last || seq != i*step {
				t.Errorf("record %d: written at %d after %d, sequence number %d; want later, and %d", i, at, last, seq, i*step)
			}
			if last = at; which == 0 {
				continue
			}
			one, other := binary.BigEndian.Uint32(r.RawSample[17:]), binary.BigEndian.Uint32(r.RawSample[21:])
			if one != 3+2*i || other != 0x1ffff+2*i {
				t.Errorf("record %d: streams %d and %#x, want %d and %#x", i, one, other, 3+2*i, 0x1ffff+2*i)
			}
		}
	}
	if err := w.Write(1000); err != nil {
		t.Fatal(err)
	}
	written, lost, err := w.Counts()
	if err != nil || lost == 0 || written+lost != 2*each+1000 {
		t.Fatalf("%d written, %d lost (%v), want %d together and some lost", written, lost, err, 2*each+1000)
	}
	read := uint64(0)
	for ; ; read++ {
		if _, err := reader.Read(); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if read != written-2*each {
		t.Errorf("%d records are read, %d were written", read, written-2*each)
	}
}
