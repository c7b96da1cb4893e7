package lease

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
)

// Value is what a request has of what a limit distinguishes. It grows by Add, and is used
// again after Reset.
type Value struct {
	text   []byte
	hashed [sha256.Size + 1]byte
}

// maxValue is the length in bytes from which on a value is replaced by its hash.
const maxValue = 256

// isHash begins a value that is a hash. It begins no other: it is no length of a part.
const isHash = 0xff

// Reset empties v.
func (v *Value) Reset() { v.text = v.text[:0] }

// Add adds a part. Parts that differ make values that differ.
func (v *Value) Add(part string) {
	v.text = append(binary.AppendUvarint(v.text, uint64(len(part))), part...)
}

// AddNone adds that there is nothing, which differs from an empty part.
func (v *Value) AddNone() { v.text = append(v.text, 0x80, 0x00) }

// bytes returns the value, or its hash if it is long.
func (v *Value) bytes() []byte {
	if len(v.text) <= maxValue {
		return v.text
	}
	v.hashed[0] = isHash
	sum := sha256.Sum256(v.text)
	copy(v.hashed[1:], sum[:])
	return v.hashed[:]
}

// Key names a value in reports: controllers do not learn it.
type Key [16]byte

func keyOf(value string, other bool) Key {
	if other {
		return Key{}
	}
	sum := sha256.Sum256([]byte(value))
	return Key(sum[:16])
}

// readable shows the parts of a value to people.
func readable(value string) string {
	if value != "" && value[0] == isHash {
		return "(long)"
	}
	var parts []string
	for rest := []byte(value); len(rest) > 0; {
		n, size := binary.Uvarint(rest)
		if size <= 0 || uint64(len(rest)-size) < n {
			break
		}
		part := string(rest[size : size+int(n)])
		if size == 2 && n == 0 {
			part = "(none)"
		}
		parts = append(parts, part)
		rest = rest[size+int(n):]
	}
	return strings.Join(parts, ", ")
}
