package observe

import (
	engine "github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
)

const (
	firstTable = 4 << 10  // size of HPACK's table until SETTINGS say something else (RFC 9113 §6.5.2)
	maxTable   = 64 << 10 // that is followed
	maxString  = 16 << 10 // bytes of a name or value
	maxWire    = 64 << 10 // bytes of a field block
	unknown    = "?"      // name of a field that was put into the table before it was seen
)

// block reads the field blocks of one direction (RFC 9113 §4.3), which share a table.
type block struct {
	decoder *engine.Decoder
	allowed uint32 // size of the table that the peer allows
	table   int    // bytes that it has at most
	stream  uint32 // of the block that is being received; 0: none
	last    bool   // END_STREAM
	discard bool   // PUSH_PROMISE
	wire    int    // bytes of it so far
	head
}

// head is what is needed of a field block.
type head struct {
	method, authority, path string
	status, grpcStatus      string
	grpc                    bool // content-type
	unknown                 bool // there are fields of unknown names
}

// size is what the block keeps, in bytes: entries of the table are strings in two maps.
func (b *block) size() int { return 2*b.table + min(b.wire, 2*maxString) }

// open begins a block.
func (b *block) open(stream uint32, last, discard bool) {
	b.stream, b.last, b.discard, b.wire, b.head = stream, last, discard, 0, head{}
}

// make makes the decoder. If joined is set, the table has entries that are not known: as many
// as it can have, so that those that come later have the same numbers as at the receiver.
func (b *block) make(joined bool) {
	if b.allowed == 0 {
		b.allowed = firstTable
	}
	b.decoder = engine.NewDecoder(firstTable, b.field)
	b.decoder.SetMaxStringLength(maxString)
	b.decoder.SetAllowedMaxDynamicTableSize(b.allowed)
	b.table = 0
	if !joined {
		return
	}
	b.decoder.SetMaxDynamicTableSize(b.allowed)
	b.decoder.SetEmitEnabled(false)
	for size := uint32(32 + len(unknown)); size <= b.allowed; size += uint32(32 + len(unknown)) {
		_, _ = b.decoder.Write([]byte{0x40, byte(len(unknown)), unknown[0], 0}) // with indexing (RFC 7541 §6.2.1)
		b.table += 32 + len(unknown)
	}
	_ = b.decoder.Close()
	b.decoder.SetEmitEnabled(true)
}

// allow is SETTINGS_HEADER_TABLE_SIZE of the block's receiver.
func (b *block) allow(size uint32) {
	b.allowed = min(size, maxTable)
	if b.decoder != nil {
		b.decoder.SetAllowedMaxDynamicTableSize(b.allowed)
	}
}

// write reads a fragment. false: the table is not known any more.
func (b *block) write(p []byte) bool {
	if b.wire += len(p); b.wire > maxWire || b.decoder == nil {
		return false
	}
	_, err := b.decoder.Write(p)
	return err == nil
}

// close ends the block. false: the table is not known any more.
func (b *block) close() bool {
	b.stream, b.wire = 0, 0
	return b.decoder != nil && b.decoder.Close() == nil
}

func (b *block) field(f engine.Field) {
	b.table = min(b.table+int(f.Size()), int(max(b.allowed, firstTable)))
	switch f.Name {
	case ":method":
		b.method = f.Value
	case ":authority":
		b.authority = f.Value
	case "host":
		if b.authority == "" {
			b.authority = f.Value
		}
	case ":path":
		b.path = f.Value
	case ":status":
		b.status = f.Value
	case "grpc-status":
		b.grpcStatus = f.Value
	case "content-type":
		b.grpc = mesh.IsGRPC(f.Value)
	case unknown:
		b.unknown = true
	}
}
