package server

import "slices"

// streamID is that of a stream in a fanout: a number, for the reason that names have some.
type streamID uint32

// fewFollowers is how many streams a set has in itself: as many as most have.
const fewFollowers = 7

// followers is a set of streams. Most have few, and some have all agents.
type followers struct {
	n    uint32
	few  [fewFollowers]streamID
	more map[streamID]struct{} // instead, nil if they are few
}

func (s *followers) list() []streamID { return s.few[:s.n] }

func (s *followers) empty() bool { return s.n == 0 && len(s.more) == 0 }

// each yields the streams.
func (s *followers) each(yield func(streamID) bool) {
	for _, id := range s.list() {
		if !yield(id) {
			return
		}
	}
	for id := range s.more {
		if !yield(id) {
			return
		}
	}
}

// enter adds a stream that is not there.
func (s *followers) enter(id streamID) {
	switch {
	case s.more != nil:
		s.more[id] = struct{}{}
	case s.n < fewFollowers:
		s.few[s.n] = id
		s.n++
	default:
		s.more = make(map[streamID]struct{}, 2*fewFollowers)
		for _, other := range s.list() {
			s.more[other] = struct{}{}
		}
		s.n = 0
		s.more[id] = struct{}{}
	}
}

func (s *followers) remove(id streamID) {
	if s.more != nil {
		if delete(s.more, id); len(s.more) == 0 {
			s.more = nil
		}
		return
	}
	if i := slices.Index(s.list(), id); i >= 0 {
		s.n--
		s.few[i] = s.few[s.n]
	}
}

func enter[K comparable](in map[K]followers, k K, id streamID) {
	s := in[k]
	s.enter(id)
	in[k] = s
}

func remove[K comparable](in map[K]followers, k K, id streamID) {
	s := in[k]
	if s.remove(id); s.empty() {
		delete(in, k)
	} else {
		in[k] = s
	}
}
