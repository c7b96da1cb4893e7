package echo

import "sync"

// turns remembers which answer is next for those who ask for a sequence of
// codes. Tests ask for few.
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
