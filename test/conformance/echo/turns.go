package echo

import "sync"

// turns stores, for each sequence of codes, which one is next. It is not bounded,
// because tests use few sequences.
type turns struct {
	mu   sync.Mutex
	next map[string]int
}

func (t *turns) code(text string) (int, error) {
	codes, err := parseCodes(text)
	if err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next == nil {
		t.next = map[string]int{}
	}
	n := t.next[text] % len(codes)
	t.next[text] = n + 1
	return codes[n], nil
}
