package server

// followers is a set of streams. Most have few, and some have all agents.
type followers struct {
	few  []*follower
	many map[*follower]struct{}
}

// fewFollowers is up to how many streams are searched one by one.
const fewFollowers = 32

func enter[K comparable](in map[K]followers, k K, f *follower) {
	s := in[k]
	switch {
	case s.many != nil:
		s.many[f] = struct{}{}
		return
	case len(s.few) < fewFollowers:
		s.few = append(s.few, f)
	default:
		s.many = make(map[*follower]struct{}, 2*fewFollowers)
		for _, other := range s.few {
			s.many[other] = struct{}{}
		}
		s.few = nil
		s.many[f] = struct{}{}
	}
	in[k] = s
}

func remove[K comparable](in map[K]followers, k K, f *follower) {
	s := in[k]
	if s.many != nil {
		if delete(s.many, f); len(s.many) == 0 {
			delete(in, k)
		}
		return
	}
	for i, other := range s.few {
		if other == f {
			last := len(s.few) - 1
			s.few[i], s.few[last] = s.few[last], nil
			s.few = s.few[:last]
			break
		}
	}
	if len(s.few) == 0 {
		delete(in, k)
	} else {
		in[k] = s
	}
}
