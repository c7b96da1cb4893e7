package quota

// Bytes that wait have three bounds: the pod's, each source's of the pod, and the node's.
// A pod, or its only source, may have MaxBuffered before its next request is refused, and
// 1.6 times as much before requests that are under way are ended. Both are a multiple of
// what is free of twice MaxBuffered, so that a source with little finds room while another
// one has much. Of the node's memory a pod may have the same multiples of what is free.
const (
	overFactor      = 1
	exhaustedFactor = 4
	roomFactor      = 2 // times MaxBuffered is the room of a pod

	// quiet is what a source may have waiting whatever others have.
	quiet = 1 << 20
)

// hold adds n bytes to those that wait, or takes them back if n is negative.
func (u *Usage) hold(n int64) {
	u.party.held.Add(n)
	u.pod.held.Add(n)
	u.pods.held.Add(n)
}

// fill is how much of what it may have the source has, before its next request is refused:
// above 1 it has more. factor is the multiple of what is free.
func (u *Usage) fill(factor int64) float64 {
	held := u.pod.held.Load()
	fill := ratio(u.party.held.Load(), factor*(roomFactor*int64(u.pods.MaxBuffered)-held))
	if memory := int64(u.pods.Memory); memory > 0 {
		fill = max(fill, ratio(held, factor*(memory-u.pods.held.Load())))
	}
	return fill
}

func ratio(have, may int64) float64 {
	switch {
	case have <= 0:
		return 0
	case may <= 0:
		return 2
	}
	return float64(have) / float64(may)
}

// OverLimit reports whether so many bytes wait that no further request may begin. It is
// false for a nil Usage.
func (u *Usage) OverLimit() bool { return u != nil && u.fill(overFactor) > 1 }

// MayWait reports whether bytes may wait for more, such as the begin of a head for its
// rest. It counts the refusal. It is true for a nil Usage.
func (u *Usage) MayWait() bool {
	over := u.OverLimit()
	if over {
		u.pods.refusedStreams.Add(1)
	}
	return !over
}

// Exhausted reports whether so many bytes wait that a request that is under way and for
// which more arrive is to be ended: many requests can begin before a byte waits, each with
// a window. The caller ends the request, and Exhausted counts it. It is false for a nil
// Usage.
func (u *Usage) Exhausted() bool {
	if u == nil || u.party.held.Load() <= min(quiet, int64(u.pods.MaxBuffered)) || u.fill(exhaustedFactor) <= 1 {
		return false
	}
	u.pods.ended.Add(1)
	return true
}

// Wait counts n bytes of buffers that are held while a receiver is slow, until Waited. It
// returns false, and counts the refusal, if so many bytes wait that the connection is to be
// ended; Waited is called all the same. A nil Usage counts nothing.
func (u *Usage) Wait(n int) bool {
	if u == nil {
		return true
	}
	u.hold(int64(n))
	return !u.Exhausted()
}

// Waited is the end of Wait.
func (u *Usage) Waited(n int) {
	if u != nil {
		u.hold(-int64(n))
	}
}

// Fill is the part of what the source may have waiting that it has: 1 when its next request
// is refused. It is 0 for a nil Usage.
func (u *Usage) Fill() float64 {
	if u == nil {
		return 0
	}
	return min(1, u.fill(overFactor))
}
