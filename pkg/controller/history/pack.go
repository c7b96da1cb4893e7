package history

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/underlane/underlane/pkg/figures"
)

// maxBlock bounds what a block becomes when it is unpacked.
const maxBlock = 64 << 20

// packer makes blocks. It keeps its buffers between two blocks.
type packer struct {
	columns
	out   bytes.Buffer
	flate *flate.Writer
}

// pack returns the block of the figures of these edges, in ascending order. The bytes are
// coded by their frequency (Huffman) only: looking for what repeats takes ten times as
// long, and saves nothing in figures. With plain they are not coded: half of the time of an
// answer would be to decode them.
func (p *packer) pack(r *reasons, ids []int, sums map[int]*figures.Sums, plain bool) []byte {
	p.head, p.buckets, p.parts = p.head[:0], p.buckets[:0], p.parts[:0]
	last := -1
	for _, id := range ids {
		at := len(p.head)
		p.head = binary.AppendUvarint(p.head, uint64(id-last-1))
		if !p.sums(r, sums[id]) {
			p.head = p.head[:at]
			continue
		}
		last = id
	}
	var lengths [2 * binary.MaxVarintLen64]byte
	head := binary.AppendUvarint(binary.AppendUvarint(lengths[:0], uint64(len(p.head))), uint64(len(p.buckets)))
	if plain {
		return slices.Concat(head, p.head, p.buckets, p.parts)
	}
	p.out.Reset()
	if p.flate == nil {
		// The level is valid, and a Buffer takes everything: there is no error.
		p.flate, _ = flate.NewWriter(&p.out, flate.HuffmanOnly)
	} else {
		p.flate.Reset(&p.out)
	}
	_, _ = p.flate.Write(head)
	for _, column := range [][]byte{p.head, p.buckets, p.parts} {
		_, _ = p.flate.Write(column)
		if len(column) > 1<<10 {
			_ = p.flate.Flush() // the next column has frequencies of its own
		}
	}
	_ = p.flate.Close()
	if cap(p.head)+cap(p.buckets)+cap(p.parts) > 8<<20 {
		p.columns = columns{}
	}
	return slices.Clone(p.out.Bytes())
}

// unpacker reads blocks. It keeps its buffers between two blocks.
type unpacker struct {
	records bytes.Buffer
	flate   io.ReadCloser
	kept    []byte
	sums    []figures.Sums // the rest of those that were allocated together
}

// newSums returns an empty figures.Sums. Several are allocated at once.
func (u *unpacker) newSums() *figures.Sums {
	if len(u.sums) == 0 {
		u.sums = make([]figures.Sums, 32)
	}
	s := &u.sums[0]
	u.sums = u.sums[1:]
	return s
}

// each calls to for each record of a block. It returns where the figures of an edge are to
// be added, nil to skip them. Then it calls opened with the connections that are open.
func (u *unpacker) each(r *reasons, b *block, to func(id int) *figures.Sums, opened func(id int, open uint64)) error {
	in, all := reader{reasons: r}, b.data
	if !b.plain {
		var err error
		if all, err = u.unpack(b.data); err != nil {
			return fmt.Errorf("unpack a block of the history: %w", err)
		}
		in.kept = &u.kept
	}
	head, buckets := in.number(&all), in.number(&all)
	if head > uint64(len(all)) || buckets > uint64(len(all))-head {
		return errEncoding
	}
	in.head, in.buckets, in.parts = all[:head], all[head:head+buckets], all[head+buckets:]
	for id := -1; len(in.head) > 0 && in.err == nil; {
		id += int(min(in.number(&in.head), maxBlock)) + 1
		sums := to(id)
		open := in.sums(sums)
		if sums != nil && in.err == nil {
			opened(id, open)
		}
	}
	return in.err
}

// unpack returns the records of a block that is coded, until the next call.
func (u *unpacker) unpack(data []byte) ([]byte, error) {
	if u.flate == nil {
		u.flate = flate.NewReader(bytes.NewReader(data))
	} else if err := u.flate.(flate.Resetter).Reset(bytes.NewReader(data), nil); err != nil {
		return nil, err
	}
	u.records.Reset()
	n, err := u.records.ReadFrom(io.LimitReader(u.flate, maxBlock+1))
	if err == nil && n > maxBlock {
		err = errEncoding
	}
	return u.records.Bytes(), err
}
