package redirect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/underlane/underlane/bpf"
	"golang.org/x/sys/unix"
)

// EventKind is what a kernel event reports of a connection that no proxy carries.
type EventKind uint8

const (
	EventConnect = EventKind(bpf.UnderlaneEventKindEVENT_CONNECT)
	EventAccept  = EventKind(bpf.UnderlaneEventKindEVENT_ACCEPT)
	EventClose   = EventKind(bpf.UnderlaneEventKindEVENT_CLOSE)
	EventFailed  = EventKind(bpf.UnderlaneEventKindEVENT_FAILED)
	EventRefused = EventKind(bpf.UnderlaneEventKindEVENT_REFUSED)
)

// Event is one record of the ring buffer.
type Event struct {
	Kind          EventKind
	NetnsCookie   uint64
	Server        bool // accepted, not connected
	FromNode      bool // accepted from one of the node's own processes
	ByPath        bool // it took the kernel path
	Local, Remote netip.AddrPort
	Endpoint      netip.AddrPort // that Remote stands for, at the client of the kernel path
	Duration      time.Duration
	Sent          uint64 // bytes that the peer acknowledged
	Received      uint64
	SRTT          time.Duration
	MinRTT        time.Duration // lowest round-trip time of the last minutes, of a connection that closes; 0: not known
	Retransmits   uint32
	Err           error // why the connection failed or was reset; nil for an orderly close
	Process       string
	PID           uint32
}

// The reader polls, because the kernel side never wakes it. It polls at the short
// interval while there are events, and slows down on a quiet node, by pollStep each time:
// each poll wakes up threads, and they are most of what an idle agent costs. At the long
// interval the ring buffer has room for 300,000 events a second.
const (
	pollFast = 5 * time.Millisecond
	pollSlow = 100 * time.Millisecond
	pollStep = time.Millisecond
)

// ReadEvents calls handle for each kernel event until ctx is done. The Event is valid
// only during the call. The ring buffer has 4 MiB, for about 30,000 events. When it is
// full, events are lost and counted (Counters).
func (d *kernelMaps) ReadEvents(ctx context.Context, handle func(*Event)) error {
	reader, err := openRing(d.objs.Events)
	if err != nil {
		return fmt.Errorf("kernel events: %w", err)
	}
	defer reader.close()
	timer := time.NewTimer(pollFast)
	defer timer.Stop()
	for pause := pollFast; ; timer.Reset(pause) {
		// A system call that waits would keep a processor from the
		// goroutines of connections until the runtime takes the processor back,
		// which can take 10 ms.
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if reader.empty() {
			pause = min(pause+pollStep, pollSlow)
			continue
		}
		pause = pollFast
		if err := d.drain(ctx, reader, handle); err != nil {
			return fmt.Errorf("kernel events: %w", err)
		}
	}
}

// drain calls handle for each event in the ring buffer, until ctx is done.
func (d *kernelMaps) drain(ctx context.Context, reader *ring, handle func(*Event)) error {
	var event Event
	read := func(record []byte) {
		if decode(record, &event) {
			handle(&event)
		} else {
			d.unknown.events.Add(1)
		}
	}
	for ctx.Err() == nil {
		if more, err := reader.read(read); !more {
			return err
		}
	}
	return nil
}

// decode reads a record. It returns false if the program of another version has written it.
func decode(sample []byte, e *Event) bool {
	if len(sample) != int(unsafe.Sizeof(bpf.UnderlaneEvent{})) {
		return false
	}
	raw := (*bpf.UnderlaneEvent)(unsafe.Pointer(unsafe.SliceData(sample)))
	if raw.Layout != uint32(bpf.UnderlaneLayoutLAYOUT_EVENT) {
		return false
	}
	*e = Event{
		Kind:        EventKind(raw.Kind),
		NetnsCookie: raw.NetnsCookie,
		Server:      raw.Server != uint8(bpf.UnderlaneServerNOT_SERVER),
		FromNode:    raw.Server == uint8(bpf.UnderlaneServerSERVER_OF_HOST),
		ByPath:      raw.Server == uint8(bpf.UnderlaneServerSERVER_OF_PATH) || raw.EndpointPort != 0,
		Local:       fromMap(raw.Local, raw.LocalPort),
		Remote:      fromMap(raw.Remote, raw.RemotePort),
		Duration:    time.Duration(raw.DurationNs),
		Sent:        raw.BytesSent,
		Received:    raw.BytesReceived,
		SRTT:        time.Duration(raw.SrttUs) * time.Microsecond,
		MinRTT:      time.Duration(raw.MinRttUs) * time.Microsecond,
		Retransmits: raw.Retransmits,
		Process:     cString(raw.Process[:]),
		PID:         raw.Pid,
	}
	if raw.EndpointPort != 0 {
		e.Endpoint = fromMap(raw.Endpoint, raw.EndpointPort)
	}
	if raw.Error != 0 {
		e.Err = unix.Errno(raw.Error)
	}
	return true
}

// counterNames are the metric labels of the kernel-side counters, in the order
// of enum counter.
var counterNames = [bpf.UnderlaneCounterNUM_COUNTERS]string{
	bpf.UnderlaneCounterCOUNT_CAPTURED_OUTBOUND:   "captured-outbound",
	bpf.UnderlaneCounterCOUNT_CAPTURED_INBOUND:    "captured-inbound",
	bpf.UnderlaneCounterCOUNT_PASSED_BOUND_DEVICE: "passed-bound-device",
	bpf.UnderlaneCounterCOUNT_PASSED_MPTCP:        "passed-mptcp",
	bpf.UnderlaneCounterCOUNT_PASSED_LINK_LOCAL:   "passed-link-local",
	bpf.UnderlaneCounterCOUNT_PASSED_SKIPPED_PORT: "passed-skipped-port",
	bpf.UnderlaneCounterCOUNT_PASSED_NO_LISTENER:  "passed-no-listener",
	bpf.UnderlaneCounterCOUNT_PASSED_STALE_AGENT:  "passed-stale-agent",
	bpf.UnderlaneCounterCOUNT_REFUSED_NO_LISTENER: "refused-no-listener",
	bpf.UnderlaneCounterCOUNT_REFUSED_STALE_AGENT: "refused-stale-agent",
	bpf.UnderlaneCounterCOUNT_EVENT_LOST:          CounterEventLost,
	bpf.UnderlaneCounterCOUNT_STORAGE_FAILED:      "storage-failed",
	bpf.UnderlaneCounterCOUNT_ORIGINAL_DST_FAILED: "original-dst-failed",
	bpf.UnderlaneCounterCOUNT_ASSIGN_FAILED:       "assign-failed",
	bpf.UnderlaneCounterCOUNT_PASSED_HOST_PROCESS: "passed-host-process",
	bpf.UnderlaneCounterCOUNT_HOST_FLOW_FAILED:    "host-flow-failed",
	bpf.UnderlaneCounterCOUNT_INNER_FLOW_FAILED:   "inner-flow-failed",
	bpf.UnderlaneCounterCOUNT_DNS_ANSWER:          "dns-answer",
	bpf.UnderlaneCounterCOUNT_DNS_LIMITED:         "dns-limited",
	bpf.UnderlaneCounterCOUNT_DNS_LOST:            "dns-lost",
	bpf.UnderlaneCounterCOUNT_DNS_UNASKED:         "dns-unasked",
}

// CounterEventLost counts events that did not fit into the ring buffer.
const CounterEventLost = "event-lost"

// Records of the ring buffers that this agent did not read, because the program of another
// version has written them.
const (
	counterEventUnknown = "event-unknown"
	counterDNSUnknown   = "dns-unknown"
)

// unknownRecords counts them.
type unknownRecords struct{ events, answers atomic.Uint64 }

// Counters returns the kernel-side counters by name, summed over processors.
func (d *kernelMaps) Counters() (map[string]uint64, error) {
	counts := make(map[string]uint64, len(counterNames)+len(pathCounterNames)+2)
	counts[counterEventUnknown], counts[counterDNSUnknown] = d.unknown.events.Load(), d.unknown.answers.Load()
	err := readCounters(counts, d.objs.Counters, counterNames[:])
	return counts, errors.Join(err, readCounters(counts, d.objs.PathCounters, pathCounterNames[:]))
}

// readCounters adds to counts the numbers of m, an array of counters.
func readCounters(counts map[string]uint64, m *ebpf.Map, names []string) error {
	for i, name := range names {
		var perCPU []uint64
		if err := m.Lookup(uint32(i), &perCPU); err != nil {
			return fmt.Errorf("map of counters: %w", err)
		}
		var sum uint64
		for _, n := range perCPU {
			sum += n
		}
		counts[name] = sum
	}
	return nil
}
