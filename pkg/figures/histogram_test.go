package figures

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestBucketsAreThoseOfNativeHistograms compares with the definition of Prometheus:
// bucket i of schema n has what is in (2^((i-1)/2^n), 2^(i/2^n)].
func TestBucketsAreThoseOfNativeHistograms(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		ns := int64(math.Exp(r.Float64() * math.Log(2e11)))
		exact := 8 * math.Log2(float64(ns)/1e6)
		want := min(max(int(math.Ceil(exact)), MinBucket), MaxBucket)
		if got := BucketOf(time.Duration(ns)); got != want && math.Abs(exact-math.Round(exact)) > 1e-9 {
			t.Fatalf("%d ns is in bucket %d, want %d", ns, got, want)
		}
	}
	for d, want := range map[time.Duration]int{
		-time.Second: MinBucket, 0: MinBucket, 1: MinBucket, time.Microsecond: MinBucket,
		time.Millisecond: 0, time.Millisecond + 1: 1, 2 * time.Millisecond: 8, 4 * time.Millisecond: 16,
		500 * time.Microsecond: -8, 100 * time.Second: MaxBucket, time.Hour: MaxBucket, math.MaxInt64: MaxBucket,
	} {
		if got := BucketOf(d); got != want {
			t.Errorf("%v is in bucket %d, want %d", d, got, want)
		}
	}
}

func TestUpperBoundsBelongToTheirBuckets(t *testing.T) {
	for b := MinBucket; b <= MaxBucket; b++ {
		if got := BucketOf(UpperBound(b)); got != b {
			t.Errorf("the upper bound of bucket %d, %v, is in bucket %d", b, UpperBound(b), got)
		}
		if got := min(BucketOf(UpperBound(b)+1), MaxBucket); got != min(b+1, MaxBucket) {
			t.Errorf("what is longer than bucket %d is in bucket %d", b, got)
		}
	}
}

// distributions of latencies, as services have them.
var distributions = map[string]func(*rand.Rand) time.Duration{
	"lognormal": func(r *rand.Rand) time.Duration { return time.Duration(5e6 * math.Exp(0.8*r.NormFloat64())) },
	"two modes": func(r *rand.Rand) time.Duration {
		if r.IntN(10) == 0 {
			return 200*time.Millisecond + time.Duration(r.IntN(1e8))
		}
		return 300*time.Microsecond + time.Duration(r.IntN(1e5))
	},
	"constant":    func(*rand.Rand) time.Duration { return 7 * time.Millisecond },
	"exponential": func(r *rand.Rand) time.Duration { return time.Duration(2e6 * r.ExpFloat64()) },
}

// TestQuantilesOfMergedHistograms spreads latencies over 20 histograms, merges these, and
// compares with the exact quantiles of all latencies.
func TestQuantilesOfMergedHistograms(t *testing.T) {
	const tolerance = 0.0443
	for name, draw := range distributions {
		r := rand.New(rand.NewPCG(3, 4))
		var parts [20]Histogram
		var all []time.Duration
		for range 50_000 {
			d := max(draw(r), 2*time.Microsecond)
			all = append(all, d)
			parts[r.IntN(len(parts))].Observe(d)
		}
		var merged Histogram
		for i := range parts {
			merged.Merge(&parts[i])
		}
		slices.Sort(all)
		if got := merged.Count(); got != uint64(len(all)) {
			t.Errorf("%s: %d latencies, want %d", name, got, len(all))
		}
		for _, q := range []float64{0, 0.5, 0.9, 0.95, 0.99, 0.999, 1} {
			rank := max(1, int(math.Ceil(q*float64(len(all)))))
			got, want := merged.Quantile(q), all[rank-1]
			if off := math.Abs(float64(got)/float64(want) - 1); off > tolerance {
				t.Errorf("%s: quantile %v is %v, want %v: off by %.1f %%", name, q, got, want, 100*off)
			}
		}
		if got, want := merged.Max(), all[len(all)-1]; got < want || float64(got) > 1.091*float64(want) {
			t.Errorf("%s: maximum %v, want %v or at most 9.1 %% more", name, got, want)
		}
	}
}

func TestEmptyHistogram(t *testing.T) {
	var h Histogram
	if h.Count() != 0 || h.Quantile(0.5) != 0 || h.Max() != 0 {
		t.Errorf("count %d, median %v, maximum %v, want zeros", h.Count(), h.Quantile(0.5), h.Max())
	}
}

// TestDrainLosesNothing takes counts out of a histogram while others count.
func TestDrainLosesNothing(t *testing.T) {
	const workers, each = 4, 20_000
	var h Histogram
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				h.Observe(time.Duration(w*each+i) * time.Microsecond)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	var got uint64
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		for _, n := range h.drain() {
			got += n
		}
	}
	if want := uint64(workers * each); got != want || h.Count() != 0 {
		t.Errorf("%d latencies were taken out and %d are left, want %d and 0", got, h.Count(), want)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	for i := range b.N {
		h.Observe(time.Duration(i%1000) * time.Microsecond)
	}
}
