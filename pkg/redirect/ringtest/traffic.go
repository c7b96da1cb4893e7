package ringtest

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"unsafe"

	"github.com/underlane/underlane/bpf"
)

// Traffic is what the kernel would report of connections that are always busy.
type Traffic struct {
	Ring   string
	Layout Layout
	First  []Record // their beginning, to be written once; nil: there is none
	Then   []Record // to be written again and again, whole
	Calls  int      // requests, or connections, in Then
}

// The ends of the connections. Each has a port of its own at the client.
var (
	Client = netip.MustParseAddr("10.99.0.2")
	Server = netip.MustParseAddr("10.99.0.3")
)

const (
	serverPort = 8080
	firstPort  = 10000
)

// eventLayout is that of struct event (bpf/include/events.h).
var eventLayout = Layout{Time: int(unsafe.Offsetof(bpf.UnderlaneEvent{}.TimeNs)), Seq: None}

// Connections are n connections of a pod that open and close (struct event).
func Connections(n int, pod uint64) Traffic {
	t := Traffic{Ring: "events", Layout: eventLayout, Calls: n}
	for i := range n {
		e := bpf.UnderlaneEvent{
			Layout: uint32(bpf.UnderlaneLayoutLAYOUT_EVENT), Pid: 1, NetnsCookie: pod,
			LocalPort: uint16(firstPort + i), RemotePort: serverPort, Kind: uint8(bpf.UnderlaneEventKindEVENT_CONNECT),
			SrttUs: 50, Process: [16]int8{'c', 'u', 'r', 'l'},
		}
		e.Local.Bytes, e.Remote.Bytes = Client.As16(), Server.As16()
		t.Then = append(t.Then, Record{Data: bytesOf(&e)})
		e.Kind, e.DurationNs, e.BytesSent, e.BytesReceived = uint8(bpf.UnderlaneEventKindEVENT_CLOSE), 1e6, 100, 1000
		t.Then = append(t.Then, Record{Data: bytesOf(&e)})
	}
	return t
}

// Requests of HTTP/1 on n connections of a pod, each with its response.
func Requests(n int, pod uint64) Traffic {
	const (
		request  = "GET /api/things?page=2 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n"
		response = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
	)
	t := Traffic{Ring: "observations", Layout: observationLayout, Calls: n}
	for i := range n {
		f := newFlow(i)
		t.First = append(t.First, f.opening(pod))
		t.Then = append(t.Then, f.segment(true, []byte(request)), f.segment(false, []byte(response)))
	}
	return t
}

// Calls of gRPC on n connections of a pod: a message to and one fro, which HPACK's table has
// everything of.
func Calls(n int, pod uint64) Traffic {
	t := Traffic{Ring: "observations", Layout: observationLayout, Calls: n}
	message := []byte("\x00\x00\x00\x00\x05hello")
	for i := range n {
		f := newFlow(i)
		t.First = append(t.First, f.opening(pod))
		preface := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
		call := func(stream uint32, head, answer, trailer []byte) {
			ask, reply := message, frame(nil, headers, endHeaders, stream, answer)
			ask = frame(frame(nil, headers, endHeaders, stream, head), data, endStream, stream, ask)
			reply = frame(reply, data, 0, stream, message)
			reply = frame(reply, headers, endHeaders|endStream, stream, trailer)
			if stream == 1 {
				ask = append(frame(preface, settings, 0, 0, nil), ask...)
				reply = append(frame(nil, settings, 0, 0, nil), reply...)
				t.First = append(t.First, f.segment(true, ask), f.segment(false, reply))
				return
			}
			to, fro := f.segment(true, ask), f.segment(false, reply)
			to.Streams, fro.Streams = streamsOf(ask), streamsOf(reply)
			t.Then = append(t.Then, to, fro)
		}
		// RFC 7541 section 6.2.1: what is new goes into the table.
		call(1,
			slices.Concat([]byte{0x83, 0x86}, literal(0x44, "/pkg.Service/Method"), literal(0x41, "shop.example"), literal(0x5f, "application/grpc")),
			append([]byte{0x88}, literal(0x5f, "application/grpc")...),
			append(literal(0x40, "grpc-status"), literal(0, "0")[1:]...))
		// Section 6.1: the newest entry is 62.
		call(3, []byte{0x83, 0x86, 0xc0, 0xbf, 0xbe}, []byte{0x88, 0xbf}, []byte{0xbe})
	}
	return t
}

// Types and flags of frames, of RFC 9113 section 6.
const (
	data     = 0
	headers  = 1
	settings = 4

	endStream  = 1
	endHeaders = 4
)

func frame(to []byte, typ, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	to = append(to, byte(n>>16), byte(n>>8), byte(n), typ, flags)
	return append(binary.BigEndian.AppendUint32(to, stream), payload...)
}

// streamsOf returns where frames have the numbers of their streams.
func streamsOf(frames []byte) (at []int) {
	for i := 0; i < len(frames); {
		at = append(at, observationSize+i+5)
		i += 9 + int(frames[i])<<16 + int(frames[i+1])<<8 + int(frames[i+2])
	}
	return at
}

func literal(first byte, value string) []byte {
	return append([]byte{first, byte(len(value))}, value...)
}

const observationSize = int(unsafe.Sizeof(bpf.ObserveObservation{}))

var observationLayout = Layout{
	Time: int(unsafe.Offsetof(bpf.ObserveObservation{}.TimeNs)), Seq: int(unsafe.Offsetof(bpf.ObserveObservation{}.Seq)),
}

// flow is a connection of a client that is observed.
type flow struct {
	id   uint64
	port uint16
	next [2]uint32 // sequence numbers: received, sent
}

func newFlow(i int) *flow {
	return &flow{id: uint64(i + 1), port: uint16(firstPort + i), next: [2]uint32{1000, 2000}}
}

func (f *flow) opening(pod uint64) Record {
	o := bpf.ObserveObservedOpening{
		Flow: f.id, Kind: uint8(bpf.ObserveObserveKindOBSERVE_OPENING), NetnsCookie: pod,
		LocalPort: f.port, RemotePort: serverPort, NamePort: serverPort, First: f.next,
	}
	o.Local.Bytes, o.Remote.Bytes, o.Name.Bytes = Client.As16(), Server.As16(), Server.As16()
	return Record{Data: bytesOf(&o)}
}

// segment has room as the kernel makes it (bpf/include/observe.h).
func (f *flow) segment(sent bool, payload []byte) Record {
	room := 64
	if len(payload) > room {
		room = 256
	}
	side := 0
	o := bpf.ObserveObservation{
		Flow: f.id, Kind: uint8(bpf.ObserveObserveKindOBSERVE_SEGMENT),
		Length: uint32(len(payload)), Copied: uint32(len(payload)), TailLength: 8,
	}
	if sent {
		side, o.Sent = 1, 1
	}
	o.Seq = f.next[side]
	f.next[side] += o.Length
	copy(o.Tail[:], payload[len(payload)-len(o.Tail):])
	record := append(bytesOf(&o), make([]byte, room)...)
	copy(record[observationSize:], payload)
	return Record{Data: record, Step: o.Length}
}

func bytesOf[T any](v *T) []byte {
	return slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)))
}
