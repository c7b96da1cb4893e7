package upstream

import "sync"

// dedicatedConns counts the mTLS connections that carry one HTTP/1 connection each, rather
// than streams, and those that are being made. The zero value is ready.
type dedicatedConns struct {
	mu sync.Mutex
	n  map[Key]int
}

// enter counts a connection, or one that is being made. leave must be called at its end.
func (d *dedicatedConns) enter(key Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.n == nil {
		d.n = make(map[Key]int)
	}
	d.n[key]++
}

func (d *dedicatedConns) leave(key Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.n[key]--; d.n[key] <= 0 {
		delete(d.n, key)
	}
}

// to returns how many there are for key.
func (d *dedicatedConns) to(key Key) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n[key]
}
