package translate

import (
	"sync"

	"github.com/underlane/underlane/pkg/controller/custom"
)

// Parsed keeps what policies were read as from one translation to the next: most of them are
// the same objects again, and to read thousands of them takes longer than all the rest. The
// Config must otherwise stay the same. The zero Parsed is empty. Translations with one
// Parsed run one after the other.
type Parsed struct {
	mu        sync.Mutex
	last, now map[*custom.PolicyObject]any
}

// begin begins a translation. At its end, which is to be called, policies that it did not
// read are forgotten.
func (p *Parsed) begin() (end func()) {
	if p == nil {
		return func() {}
	}
	p.mu.Lock()
	p.now = make(map[*custom.PolicyObject]any, len(p.last))
	return func() {
		p.last, p.now = p.now, nil
		p.mu.Unlock()
	}
}

// parsed returns what read returns for o, or has returned in the translation before. The
// result must not be changed.
func parsed[T any](t *translation, o *custom.PolicyObject, read func() T) T {
	p := t.config.Parsed
	if p == nil {
		return read()
	}
	out, ok := p.last[o].(T)
	if !ok {
		out = read()
	}
	p.now[o] = out
	return out
}
