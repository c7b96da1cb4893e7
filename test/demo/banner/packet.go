// Package banner is the demo's service in which the server speaks first. Like a
// MySQL server it sends a binary handshake at once, unasked, and then one packet per
// query. There is no login: a client may query as soon as it has the handshake.
package banner

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxPayload is the largest payload that either end accepts in a packet, in bytes.
const maxPayload = 4096

// First byte of a payload, as in MySQL's client/server protocol.
const (
	comQuit  = 0x01 // client: goodbye
	comQuery = 0x03 // client: query text follows
	comPing  = 0x0e // client: are you there?
	isOK     = 0x00 // server: answer text follows
	isError  = 0xff // server: error text follows
	version  = 0x0a // server: handshake protocol version
)

// writePacket writes a payload after MySQL's packet header: 3 bytes of length, in
// little endian, and a sequence number.
func writePacket(w io.Writer, seq byte, payload []byte) error {
	if len(payload) > maxPayload {
		return fmt.Errorf("write packet: %d bytes are over the limit of %d", len(payload), maxPayload)
	}
	packet := binary.LittleEndian.AppendUint32(nil, uint32(len(payload))|uint32(seq)<<24)
	if _, err := w.Write(append(packet, payload...)); err != nil {
		return fmt.Errorf("write packet: %w", err)
	}
	return nil
}

// readPacket reads one packet. An end of stream between packets is io.EOF.
func readPacket(r io.Reader) (seq byte, payload []byte, err error) {
	var header [4]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return 0, nil, io.EOF
		}
		return 0, nil, fmt.Errorf("read packet header: %w", err)
	}
	word := binary.LittleEndian.Uint32(header[:])
	n := word & 0xffffff
	if n == 0 || n > maxPayload {
		return 0, nil, fmt.Errorf("read packet: length %d is not in 1…%d: is the peer a banner service?", n, maxPayload)
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, fmt.Errorf("read packet of %d bytes: %w", n, err)
	}
	return byte(word >> 24), payload, nil
}

// handshake returns the payload of MySQL's HandshakeV10 for a server version and a
// connection number.
func handshake(serverVersion string, connection uint32) []byte {
	p := append([]byte{version}, serverVersion...)
	p = append(p, 0)
	p = binary.LittleEndian.AppendUint32(p, connection)
	p = append(p, "8 octets"...)          // first part of the authentication data
	p = append(p, 0, 0xff, 0xf7)          // filler, lower capability flags
	p = append(p, 0xff, 2, 0, 0xff, 0xdf) // utf8mb4, autocommit, upper capability flags
	p = append(p, 21)                     // length of the authentication data
	p = append(p, make([]byte, 10)...)    // reserved
	p = append(p, "12 octets...\x00"...)  // second part of the authentication data
	return append(p, "caching_sha2_password\x00"...)
}

// parseHandshake returns the server version of a handshake.
func parseHandshake(payload []byte) (serverVersion string, err error) {
	if payload[0] != version {
		return "", fmt.Errorf("read handshake: protocol version %d, want %d", payload[0], version)
	}
	name, _, ok := bytes.Cut(payload[1:], []byte{0})
	if !ok {
		return "", errors.New("read handshake: the server version has no end")
	}
	return string(name), nil
}
