package wire

import (
	"bytes"

	"golang.org/x/net/http2/hpack"
)

// Words finds words in bytes from the wire, both as they are and in HPACK's Huffman
// code, in which HTTP/2 sends a path.
type Words struct {
	patterns []pattern
}

type pattern struct {
	word  string
	bytes []byte
}

// minPattern is the length of the shortest pattern, in bytes. Shorter ones occur in
// encrypted traffic by chance.
const minPattern = 5

// NewWords prepares a search. Words shorter than minPattern are left out.
func NewWords(words ...string) Words {
	var w Words
	for _, word := range words {
		w.add(word, []byte(word))
		coded := hpack.AppendHuffmanString(nil, word)
		w.add(word, coded[:len(coded)-1]) // without the last byte, which has padding or the start of another letter
	}
	return w
}

func (w *Words) add(word string, b []byte) {
	if len(b) >= minPattern {
		w.patterns = append(w.patterns, pattern{word, b})
	}
}

// In returns the first word found in data, "" if there is none.
func (w Words) In(data []byte) string {
	for _, p := range w.patterns {
		if bytes.Contains(data, p.bytes) {
			return p.word
		}
	}
	return ""
}
