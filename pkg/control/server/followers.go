package server

import "slices"

// streamID is that of a stream in a fanout. Thousands of streams have hundreds of resources each:
// numbers, unlike pointers, cost the garbage collector nothing.
type streamID uint32

// followers is a set of streams. Most have few, and some have all agents.
type followers struct {
	few  []streamID
	many map[streamID]struct{}
}

// fewFollowers is up to how many streams are searched one by one.
const fewFollowers = 32

func enter[K comparable](in map[K]followers, k K, id streamID) {
	s := in[k]
	switch {
	case s.many != nil:
		s.many[id] = struct{}{}
		return
	case len(s.few) < fewFollowers:
		s.few = append(s.few, id)
	default:
		s.many = make(map[streamID]struct{}, 2*fewFollowers)
		for _, other := range s.few {
			s.many[other] = struct{}{}
		}
		s.few = nil
		s.many[id] = struct{}{}
	}
	in[k] = s
}

func remove[K comparable](in map[K]followers, k K, id streamID) {
	s := in[k]
	if s.many != nil {
		if delete(s.many, id); len(s.many) == 0 {
			delete(in, k)
		}
		return
	}
	if i := slices.Index(s.few, id); i >= 0 {
		last := len(s.few) - 1
		s.few[i] = s.few[last]
		s.few = s.few[:last]
	}
	if len(s.few) == 0 {
		delete(in, k)
	} else {
		in[k] = s
	}
}
