package depend

import "slices"

// set is a set of nodes. Most have few elements, and some have all pods of a namespace.
type set struct {
	few  []*Node
	many map[*Node]struct{}
}

// few is up to how many elements are searched one by one.
const few = 12

func (s *set) len() int { return len(s.few) + len(s.many) }

func (s *set) has(n *Node) bool {
	if s.many != nil {
		_, has := s.many[n]
		return has
	}
	return slices.Contains(s.few, n)
}

// add reports whether n is new.
func (s *set) add(n *Node) bool {
	if s.many != nil {
		if _, has := s.many[n]; has {
			return false
		}
		s.many[n] = struct{}{}
		return true
	}
	if slices.Contains(s.few, n) {
		return false
	}
	if len(s.few) < few {
		s.few = append(s.few, n)
		return true
	}
	s.many = make(map[*Node]struct{}, 2*few)
	for _, old := range s.few {
		s.many[old] = struct{}{}
	}
	s.few = nil
	s.many[n] = struct{}{}
	return true
}

func (s *set) remove(n *Node) {
	if s.many != nil {
		delete(s.many, n)
		if len(s.many) == 0 {
			s.many = nil
		}
		return
	}
	if i := slices.Index(s.few, n); i >= 0 {
		last := len(s.few) - 1
		s.few[i], s.few[last] = s.few[last], nil
		s.few = s.few[:last]
	}
}

func (s *set) each(do func(*Node)) {
	for _, n := range s.few {
		do(n)
	}
	for n := range s.many {
		do(n)
	}
}
