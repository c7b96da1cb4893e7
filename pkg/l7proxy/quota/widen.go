package quota

import "sync/atomic"

// Parts of MaxBuffered by which the windows of the streams of a pod, and of one source of it,
// may be wider together than they are at first.
const (
	widenPod    = 4
	widenSource = 8
)

// Widen counts that n more bytes may wait for the receiver of a stream, because it reads
// quickly, until Widen is called with -n. It returns false, and counts nothing, if the streams of
// the pod, or of the source, have been widened by as much as they may be. A nil Usage has no limit.
func (u *Usage) Widen(n int) bool {
	if u == nil || n == 0 {
		return true
	}
	if !within(&u.pod.widened, n, u.pods.MaxBuffered/widenPod) {
		return false
	}
	if !within(&u.party.widened, n, u.pods.MaxBuffered/widenSource) {
		u.pod.widened.Add(-int64(n))
		return false
	}
	return true
}

// within adds n if the sum is at most most, or n is negative.
func within(sum *atomic.Int64, n, most int) bool {
	if sum.Add(int64(n)) <= int64(most) || n < 0 {
		return true
	}
	sum.Add(-int64(n))
	return false
}
