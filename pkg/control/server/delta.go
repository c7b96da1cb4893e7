package server

import (
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
}

// copied is the size up to which the encoded resources of a delta are copied into one buffer.
// A larger one refers to them: an agent that does not read holds no copy.
const copied = 4 << 10

// encode returns d in the wire format of pb.Delta.
func (d *delta) encode() mem.BufferSlice {
	size := 0
	for _, r := range d.resources {
		size += len(r.wire)
	}
	var head []byte
	head = protowire.AppendTag(head, fieldNonce, protowire.VarintType)
	head = protowire.AppendVarint(head, d.nonce)
	head = protowire.AppendTag(head, fieldDeltaVersion, protowire.VarintType)
	head = protowire.AppendVarint(head, d.version)
	for _, name := range d.removed {
		head = protowire.AppendTag(head, fieldRemoved, protowire.BytesType)
		head = protowire.AppendString(head, name)
	}
	if d.initialSyncDone {
		head = protowire.AppendTag(head, fieldInitialSyncDone, protowire.VarintType)
		head = protowire.AppendVarint(head, protowire.EncodeBool(true))
	}
	if size <= copied {
		out := make([]byte, 0, len(head)+size)
		out = append(out, head...)
		for _, r := range d.resources {
			out = append(out, r.wire...)
		}
		return mem.BufferSlice{mem.SliceBuffer(out)}
	}
	out := make(mem.BufferSlice, 0, len(d.resources)+1)
	out = append(out, mem.SliceBuffer(head))
	for _, r := range d.resources {
		out = append(out, mem.SliceBuffer(r.wire))
	}
	return out
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
