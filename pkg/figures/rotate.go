package figures

import (
	"encoding/binary"
	"slices"
	"time"
	"unsafe"

	"github.com/underlane/underlane/pkg/slots"
)

// Rotate ends the window that is being filled, if its time is over at now. Run and Query
// call it. While it works, Emit goes on.
func (s *Store) Rotate(now time.Time) {
	s.turn.Lock()
	defer s.turn.Unlock()
	s.rotate(now)
}

// rotate is Rotate for callers that hold turn.
func (s *Store) rotate(now time.Time) {
	next := windowOf(now)
	// If the clock is a window behind, the present window just becomes longer. If it was
	// set back further, what was counted before has no place any more.
	back := next < s.current-1
	if next <= s.current && !back {
		return
	}
	s.mu.Lock()
	edges := slices.Clone(s.byID)
	s.mu.Unlock()
	data := slices.Clone(encode(edges, true, s.current))
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case back:
		s.windows, s.bytes, s.began = nil, 0, next
		for _, e := range edges {
			if e != nil {
				e.last = next
			}
		}
	case len(data) > 0:
		s.windows = append(s.windows, window{s.current, data})
		s.bytes += cap(data)
	}
	s.current = next
	s.forget()
}

// encode returns what edges have counted in the current window, which has this number.
func encode(edges []*edge, drain bool, number int64) (data []byte) {
	last := -1
	for id, e := range edges {
		if e == nil {
			continue
		}
		start := len(data)
		data = binary.AppendUvarint(data, uint64(id-last-1))
		head := len(data)
		if data = e.live.encode(data, drain); len(data) == head {
			data = data[:start]
			continue
		}
		last = id
		if drain {
			e.last = number
		}
	}
	return data
}

// forget drops the windows that are too old or do not fit, and the edges that are in no
// window any more.
func (s *Store) forget() {
	oldest := s.current - int64(s.opt.Windows)
	drop := 0
	room := s.opt.Bytes - s.size()
	if s.opt.Beside != nil {
		room -= s.opt.Beside()
	}
	for drop < len(s.windows) && (s.windows[drop].number < oldest || s.bytes > room) {
		s.bytes -= cap(s.windows[drop].data)
		s.began = s.windows[drop].number + 1
		drop++
	}
	s.windows = slices.Delete(s.windows, 0, drop)
	s.began = max(s.began, oldest)

	gone := false
	for id, e := range s.byID {
		if e != nil && e.last < s.began {
			s.byID[id], gone = nil, true
			delete(s.edges, e.key)
		}
	}
	if gone {
		s.names, s.owned = newNames(), map[*End]int{}
		for _, e := range s.edges {
			s.names.keep(&e.key)
			s.owned[e.key.own()]++
		}
	}
	if gone || s.current%recentEvery == 0 {
		s.recent.Store(&recent{})
		s.missed = map[fast]target{}
	}
}

// size estimates the memory of everything but the windows' data, in bytes. A map takes
// about half more than what is in it, and the heap an eighth more than what it is asked
// for.
func (s *Store) size() int {
	const (
		perEdge = int(unsafe.Sizeof(edge{})) + int(unsafe.Sizeof(interned{})+8)*3/2
		perName = int(unsafe.Sizeof(End{})) * 5 / 2
		perFast = int(unsafe.Sizeof(slot{})) * 3 / 2
		hot     = int(unsafe.Sizeof(recent{}) + slots.Number*unsafe.Sizeof(slot{}))
	)
	total := hot + len(s.edges)*perEdge + (len(s.names.ends)+len(s.names.services)+len(s.names.routes)+len(s.owned)/4)*perName +
		(len(s.recent.Load().all)+len(s.missed))*perFast + s.opt.Windows*int(unsafe.Sizeof(window{}))
	for _, e := range s.edges {
		total += e.live.size()
	}
	return total * 9 / 8
}

// size returns the memory of what was allocated at its first use.
func (l *live) size() (total int) {
	total += l.latency.Size()
	if l.rare.Load() != nil {
		total += int(unsafe.Sizeof(liveRare{}))
	}
	if l.conns.Load() != nil {
		total += int(unsafe.Sizeof(liveConns{}))
	}
	return total
}
