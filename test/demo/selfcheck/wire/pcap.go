// Package wire captures the traffic on a link and finds an application's words in it.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// The classic pcap format with microseconds, which tcpdump and Wireshark can read: a
// file header, and then for each frame a header and the frame.
const (
	pcapMagic      = 0xa1b2c3d4
	pcapFileHeader = 24
	pcapRecord     = 16
	linkEthernet   = 1
	maxFrame       = 256 << 10 // bytes; a frame on a veth is up to 64 KiB
)

var order = binary.LittleEndian

// WriteHeader writes the file header.
func WriteHeader(w io.Writer) error {
	h := order.AppendUint32(nil, pcapMagic)
	h = order.AppendUint16(h, 2) // version 2.4
	h = order.AppendUint16(h, 4)
	h = append(h, make([]byte, 8)...) // time zone and accuracy: always 0
	h = order.AppendUint32(h, maxFrame)
	h = order.AppendUint32(h, linkEthernet)
	if _, err := w.Write(h); err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	return nil
}

// ReadHeader reads and checks the file header.
func ReadHeader(r io.Reader) error {
	var h [pcapFileHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return fmt.Errorf("read capture: file header: %w", err)
	}
	if got := order.Uint32(h[:]); got != pcapMagic {
		return fmt.Errorf("read capture: magic %#x is not that of a little-endian pcap with microseconds", got)
	}
	if got := order.Uint32(h[20:]); got != linkEthernet {
		return fmt.Errorf("read capture: link type %d, want Ethernet", got)
	}
	return nil
}

// WriteFrame writes one frame.
func WriteFrame(w io.Writer, at time.Time, frame []byte) error {
	record := order.AppendUint32(nil, uint32(at.Unix()))
	record = order.AppendUint32(record, uint32(at.Nanosecond()/1000))
	record = order.AppendUint32(record, uint32(len(frame)))
	record = order.AppendUint32(record, uint32(len(frame)))
	if _, err := w.Write(append(record, frame...)); err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	return nil
}

// ReadFrame reads one frame. At the end, or if the last frame is incomplete, the
// error is io.EOF.
func ReadFrame(r io.Reader) ([]byte, error) {
	var record [pcapRecord]byte
	if _, err := io.ReadFull(r, record[:]); err != nil {
		return nil, endOf(err)
	}
	n := order.Uint32(record[8:])
	if n > maxFrame {
		return nil, fmt.Errorf("read capture: frame of %d bytes, more than %d", n, maxFrame)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, endOf(err)
	}
	return frame, nil
}

func endOf(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	return fmt.Errorf("read capture: %w", err)
}
