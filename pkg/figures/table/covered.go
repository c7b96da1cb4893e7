package table

import (
	"time"

	"github.com/underlane/underlane/pkg/figures"
)

// spread is the time over which something was counted. Its parts come from agents that
// remember less or more, and each has its own rate: the rates add up, the times do not.
type spread struct{ count, rate float64 }

// add adds a part that was counted in these seconds.
func (s *spread) add(count, seconds float64) {
	s.count += count
	s.rate += count / max(1, seconds)
}

// seconds returns the time by which the whole count has the sum of the rates, and whole
// where nothing was counted.
func (s *spread) seconds(whole float64) float64 {
	if s.count == 0 {
		return whole
	}
	return s.count / s.rate
}

// told returns the seconds for the API: 0 for the whole time.
func (s *spread) told(whole float64) float64 {
	if seconds := s.seconds(whole); seconds < whole-0.001 {
		return seconds
	}
	return 0
}

// remembered returns the seconds from start to end that r is of.
func remembered(r *figures.Result, start, end time.Time) float64 {
	if r.Since.After(start) {
		start = r.Since
	}
	return max(1, end.Sub(start).Seconds())
}

// weight is how much the sums of an agent count in the mean of the times.
func weight(s *figures.Sums) float64 {
	return float64(max(1, s.Requests()+s.Opened+s.Closed+s.Failed))
}
