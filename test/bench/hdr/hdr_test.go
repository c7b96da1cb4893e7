package hdr

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBucketsAreContiguousAndTight(t *testing.T) {
	for i := 1; i < buckets; i++ {
		low, high := upper(i-1)+1, upper(i)
		if index(low) != i || index(high) != i {
			t.Fatalf("bucket %d is %d to %d: index gives %d and %d, want %d", i, low, high, index(low), index(high), i)
		}
		if high > math.MaxInt64 {
			break
		}
		if float64(high-low) > float64(low)/sub {
			t.Fatalf("bucket %d is %d to %d, want a width of at most %v", i, low, high, float64(low)/sub)
		}
	}
	if i := index(math.MaxInt64); i >= buckets {
		t.Errorf("the longest duration is in bucket %d, want the last of %d", i, buckets)
	}
}

func TestQuantilesAgainstSorting(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	all := make([]time.Duration, 100_000)
	for i := range all {
		all[i] = time.Duration(math.Exp(rng.NormFloat64()) * float64(time.Millisecond))
		h.Record(all[i])
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[max(int(math.Ceil(q*float64(len(all))))-1, 0)]
		if got := h.Quantile(q); got < want || float64(got) > float64(want)*(1+1.0/sub) {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
	if h.Quantile(1) != h.Max() || h.Max() != all[len(all)-1] {
		t.Errorf("max %v, want %v", h.Max(), all[len(all)-1])
	}
}

func TestEmptyAndNegative(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 || h.Max() != 0 || h.Count() != 0 {
		t.Errorf("empty histogram: got a quantile of %v and a maximum of %v, want 0", h.Quantile(0.5), h.Max())
	}
	h.Record(-time.Second)
	if h.Quantile(1) != 0 || h.Count() != 1 {
		t.Errorf("after a negative duration: quantile %v and count %d, want it counted as 0", h.Quantile(1), h.Count())
	}
}

func TestAddAndJSON(t *testing.T) {
	var a, b, sum Histogram
	for i := range 1000 {
		d := time.Duration(i*i) * time.Microsecond
		sum.Record(d)
		if i%3 == 0 {
			a.Record(d)
		} else {
			b.Record(d)
		}
	}
	text, err := json.Marshal(&b)
	if err != nil {
		t.Fatal(err)
	}
	var back Histogram
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	a.Add(&back)
	a.Add(&Histogram{})
	if !slices.Equal(a.counts, sum.counts) || a.Count() != sum.Count() || a.Max() != sum.Max() {
		t.Errorf("the sum of the parts has %d up to %v, want %d up to %v", a.Count(), a.Max(), sum.Count(), sum.Max())
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	for _, text := range []string{`{"SubBits":3}`, `{"SubBits":7,"Buckets":[[99999,1]]}`, `[]`} {
		if err := json.Unmarshal([]byte(text), new(Histogram)); err == nil {
			t.Errorf("%s: got no error, want one", text)
		}
	}
}
