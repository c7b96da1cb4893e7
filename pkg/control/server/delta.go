package server

import (
	"encoding/binary"
	"time"

	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/underlane/underlane/api/control/v1"
)

// delta is a pb.Delta whose resources are encoded already.
type delta struct {
	nonce, version  uint64
	resources       []*resource
	removed         []string
	initialSyncDone bool
	answerWithin    time.Duration // how late the agent may answer; 0: at once
}

// copied is the size up to which the encoded resources of a delta are copied into one buffer.
// A larger one refers to them: an agent that does not read holds no copy.
const copied = 4 << 10

// encode returns d in the wire format of pb.Delta.
func (d *delta) encode() mem.BufferSlice {
	size, most := 0, mostHead
	for _, r := range d.resources {
		size += len(r.wire)
	}
	for _, name := range d.removed {
		most += protowire.SizeTag(fieldRemoved) + protowire.SizeBytes(len(name))
	}
	if size <= copied {
		buf := buffers.Get(most + size)
		out := d.appendHead((*buf)[:0])
		for _, r := range d.resources {
			out = append(out, r.wire...)
		}
		*buf = out
		return mem.BufferSlice{mem.NewBuffer(buf, buffers)}
	}
	out := make(mem.BufferSlice, 0, len(d.resources)+1)
	out = append(out, mem.SliceBuffer(d.appendHead(make([]byte, 0, most))))
	for _, r := range d.resources {
		out = append(out, mem.SliceBuffer(r.wire))
	}
	return out
}

// buffers are given back when gRPC has written what is in them.
var buffers = mem.DefaultBufferPool()

// mostHead is how many bytes appendHead appends at most, beside names.
const mostHead = 4*binary.MaxVarintLen64 + 8

// appendHead appends everything of d but its resources.
func (d *delta) appendHead(head []byte) []byte {
	number := func(field protowire.Number, v uint64) {
		head = protowire.AppendTag(head, field, protowire.VarintType)
		head = protowire.AppendVarint(head, v)
	}
	number(fieldNonce, d.nonce)
	number(fieldDeltaVersion, d.version)
	for _, name := range d.removed {
		head = protowire.AppendTag(head, fieldRemoved, protowire.BytesType)
		head = protowire.AppendString(head, name)
	}
	if d.initialSyncDone {
		number(fieldInitialSyncDone, protowire.EncodeBool(true))
	}
	if d.answerWithin > 0 {
		number(fieldAnswerWithin, uint64(d.answerWithin.Milliseconds()))
	}
	return head
}

// message returns d as the agent reads it, nil for nil.
func (d *delta) message() *pb.Delta {
	if d == nil {
		return nil
	}
	out := &pb.Delta{}
	if err := proto.Unmarshal(d.encode().Materialize(), out); err != nil {
		panic(err) // encode is wrong
	}
	return out
}

// deltaCodec encodes a delta beside the messages of protobuf.
type deltaCodec struct{ encoding.CodecV2 }

func newDeltaCodec() deltaCodec { return deltaCodec{encoding.GetCodecV2(protocodec.Name)} }

// Marshal implements encoding.CodecV2.
func (c deltaCodec) Marshal(v any) (mem.BufferSlice, error) {
	if d, is := v.(*delta); is {
		return d.encode(), nil
	}
	return c.CodecV2.Marshal(v)
}
