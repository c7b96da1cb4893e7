package sample

import (
	"math"
	"slices"
	"time"
)

// bound is the upper bound of bucket i in ms: eight buckets double it.
func bound(i int) float64 { return math.Exp2(float64(i) / 8) }

// shape spreads a log-normal distribution over buckets around its median: shares by
// the distance from the median's bucket, for a sigma.
func shape(sigma float64) (first int, shares []float64) {
	step := math.Ln2 / 8
	span := int(math.Ceil(3.2 * sigma / step))
	cdf := func(x float64) float64 { return 0.5 * math.Erfc(-x/(sigma*math.Sqrt2)) }
	for i := -span; i <= span; i++ {
		shares = append(shares, cdf(float64(i)*step+step/2)-cdf(float64(i)*step-step/2))
	}
	return -span, shares
}

// sumsOf are the figures of e in [start, start+d).
func (w *World) sumsOf(e *edge, start time.Time, d time.Duration) *sums {
	seconds := d.Seconds()
	middle := start.Add(d / 2)
	rate := w.rateAt(e, middle)
	jitter := 0.94 + 0.12*w.noise(e.id, start.Unix(), "n")
	n := int(rate*seconds*jitter + w.noise(e.id, start.Unix(), "r"))
	s := &sums{TCP: &tcp{Open: 1 + int(rate/20) + int(e.id%5), SRTT: 0.08 + 0.5*w.noise(e.id, "srtt"), ReadBytes: int64(float64(n) * 410), WriteBytes: int64(float64(n) * 5200)}}
	s.TCP.Opened = int(rate*seconds/60 + w.noise(e.id, start.Unix(), "o"))
	s.TCP.Closed = s.TCP.Opened
	if w.noise(e.id, start.Unix(), "x") > 0.985 {
		s.TCP.Retransmits = 1 + int(e.id%3)
	}
	if e.protocol == "tcp" || e.protocol == "tls" {
		s.TCP.Opened, s.TCP.Closed = n, n
		s.TCP.WriteBytes *= 9
		if e.reason != "" {
			s.TCP.Failed = int(float64(n) * e.failing)
			s.TCP.Opened, s.TCP.Closed = n-s.TCP.Failed, n-s.TCP.Failed
			if e.failing == 1 { // nothing passes
				s.TCP.Open, s.TCP.ReadBytes, s.TCP.WriteBytes, s.TCP.SRTT = 0, 0, 0, 0
			}
		}
		return s
	}
	if n == 0 {
		return s
	}
	share := e.failing * (0.7 + 0.6*w.noise(e.id, start.Unix(), "f"))
	failed := min(n, int(share*float64(n)+w.noise(e.id, start.Unix(), "g")*boolTo(e.failing > 0)))
	if e.failing == 1 {
		failed = n
	}
	s.Requests, s.Success = n, n-failed
	if failed > 0 {
		reason := e.reason
		if reason == "" {
			reason = "status"
		}
		s.Failures = map[string]int{reason: failed}
		if e.reason == "connect-refused" {
			s.Retries = failed / 2
		}
	}
	median := e.median * (0.9 + 0.2*w.noise(e.id, start.Unix(), "l"))
	first, shares := shape(e.spread)
	center := int(math.Round(8 * math.Log2(median)))
	s.counts = map[int]int{}
	carry := w.noise(e.id, start.Unix(), "c")
	for i, share := range shares {
		carry += share * float64(n)
		if c := int(carry); c > 0 {
			s.counts[center+first+i] = c
			carry -= float64(c)
		}
	}
	s.Split = &split{Queue: 0.02 * median, Connect: 0.01 * median, TLS: 0.008 * median, FirstByte: 0.88 * median, Body: 0.08 * median}
	return s
}

func boolTo(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// merge adds b to a, which may be nil. later: b is of the same connections at another
// time, so that the open ones count once.
func merge(a, b *sums, later bool) *sums {
	if a == nil {
		a = &sums{counts: map[int]int{}}
	}
	if b == nil {
		return a
	}
	before, after := float64(a.Requests), float64(b.Requests)
	a.Requests += b.Requests
	a.Success += b.Success
	a.Retries += b.Retries
	for reason, n := range b.Failures {
		if a.Failures == nil {
			a.Failures = map[string]int{}
		}
		a.Failures[reason] += n
	}
	for i, n := range b.counts {
		a.counts[i] += n
	}
	if b.Split != nil {
		if a.Split == nil {
			a.Split = &split{}
		}
		mean := func(x *float64, y float64) { *x = (*x*before + y*after) / max(1, before+after) }
		mean(&a.Split.Queue, b.Split.Queue)
		mean(&a.Split.Connect, b.Split.Connect)
		mean(&a.Split.TLS, b.Split.TLS)
		mean(&a.Split.FirstByte, b.Split.FirstByte)
		mean(&a.Split.Body, b.Split.Body)
	}
	if b.TCP != nil {
		if a.TCP == nil {
			a.TCP = &tcp{}
		}
		if later {
			a.TCP.Open = b.TCP.Open
		} else {
			a.TCP.Open += b.TCP.Open
		}
		a.TCP.Opened += b.TCP.Opened
		a.TCP.Closed += b.TCP.Closed
		a.TCP.Failed += b.TCP.Failed
		a.TCP.ReadBytes += b.TCP.ReadBytes
		a.TCP.WriteBytes += b.TCP.WriteBytes
		a.TCP.SRTT = max(a.TCP.SRTT, b.TCP.SRTT)
		a.TCP.Retransmits += b.TCP.Retransmits
	}
	return a
}

// finish computes the percentiles, and keeps the buckets if they are wanted.
func (s *sums) finish(buckets bool) *sums {
	if s == nil || len(s.counts) == 0 {
		return s
	}
	indexes := make([]int, 0, len(s.counts))
	all := 0
	for i, n := range s.counts {
		indexes = append(indexes, i)
		all += n
	}
	slices.Sort(indexes)
	round := func(x float64) float64 { return math.Round(x*1000) / 1000 }
	at := func(q float64) float64 {
		rank, seen := int(math.Ceil(q*float64(all))), 0
		for _, i := range indexes {
			if seen += s.counts[i]; seen >= rank {
				return round(bound(i) * 0.957) // the middle of the bucket
			}
		}
		return 0
	}
	s.Latency = &latency{P50: at(0.50), P95: at(0.95), P99: at(0.99), Max: round(bound(indexes[len(indexes)-1]))}
	if buckets {
		for _, i := range indexes {
			s.Latency.Buckets = append(s.Latency.Buckets, [2]int{i, s.counts[i]})
		}
	}
	return s
}
