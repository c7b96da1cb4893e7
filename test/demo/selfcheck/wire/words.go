package wire

import (
	"bytes"

	"golang.org/x/net/http2/hpack"
)

// Words finds given words in bytes from the wire: as they are, and as HPACK
// writes them with Huffman's code, which is how HTTP/2 sends a path.
type Words struct {
	patterns []pattern
}

type pattern struct {
	word  string
	bytes []byte
}

// minPattern is the least length searched for, in bytes: shorter ones turn up
// in encrypted traffic by chance.
const minPattern = 5

// NewWords prepares a search. Words shorter than minPattern are left out.
func NewWords(words ...string) Words {
	var w Words
	for _, word := range words {
		w.add(word, []byte(word))
		coded := hpack.AppendHuffmanString(nil, word)
		w.add(word, coded[:len(coded)-1]) // the last byte is padded, or another letter's start
	}
	return w
}

func (w *Words) add(word string, b []byte) {
	if len(b) >= minPattern {
		w.patterns = append(w.patterns, pattern{word, b})
	}
}

// In returns the first word found in data, "" for none.
func (w Words) In(data []byte) string {
	for _, p := range w.patterns {
		if bytes.Contains(data, p.bytes) {
			return p.word
		}
	}
	return ""
}
