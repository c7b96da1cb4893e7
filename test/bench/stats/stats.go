// Package stats summarises rounds of a measurement on a noisy machine: medians,
// the spread of rounds, and ratios within a round.
package stats

import (
	"encoding/json"
	"math"
	"slices"
)

// Sample has the values of a figure, one for each round, in their order. A missing
// value is NaN.
type Sample []float64

func (s Sample) sorted() []float64 {
	out := slices.DeleteFunc(slices.Clone(s), math.IsNaN)
	slices.Sort(out)
	return out
}

// Median returns the median, NaN if there is no value.
func (s Sample) Median() float64 {
	v := s.sorted()
	n := len(v)
	switch {
	case n == 0:
		return math.NaN()
	case n%2 == 1:
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

// Spread returns the distance from the lowest to the highest value as a share of
// the median: 0.1 means within 10 %. It is NaN with fewer than two rounds.
func (s Sample) Spread() float64 {
	v := s.sorted()
	if len(v) < 2 {
		return math.NaN()
	}
	return (v[len(v)-1] - v[0]) / s.Median()
}

// Ratio returns s/to for each round, so that drift between rounds cancels out.
func (s Sample) Ratio(to Sample) Sample {
	out := make(Sample, min(len(s), len(to)))
	for i := range out {
		out[i] = math.NaN()
		if to[i] != 0 {
			out[i] = s[i] / to[i]
		}
	}
	return out
}

// Minus returns s-from for each round.
func (s Sample) Minus(from Sample) Sample {
	out := make(Sample, min(len(s), len(from)))
	for i := range out {
		out[i] = s[i] - from[i]
	}
	return out
}

// Worse reports whether s, the ratio of a new to an old figure in each round, is
// above 1 by more than chance. The median must exceed 1 by more than the
// threshold, and at most one round in seven may contradict. With fewer than three
// rounds the result is false.
func (s Sample) Worse(threshold float64) bool {
	v := s.sorted()
	contrary := 0
	for _, r := range v {
		if r < 1 {
			contrary++
		}
	}
	return len(v) >= 3 && s.Median() > 1+threshold && contrary*7 <= len(v)
}

// MarshalJSON writes missing values as null, because JSON has no NaN.
func (s Sample) MarshalJSON() ([]byte, error) {
	out := make([]*float64, len(s))
	for i, v := range s {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			out[i] = &s[i]
		}
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Sample) UnmarshalJSON(text []byte) error {
	var in []*float64
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	*s = make(Sample, len(in))
	for i, v := range in {
		(*s)[i] = math.NaN()
		if v != nil {
			(*s)[i] = *v
		}
	}
	return nil
}

// Range returns the lowest and the highest value, NaN if there is none.
func (s Sample) Range() (low, high float64) {
	v := s.sorted()
	if len(v) == 0 {
		return math.NaN(), math.NaN()
	}
	return v[0], v[len(v)-1]
}
