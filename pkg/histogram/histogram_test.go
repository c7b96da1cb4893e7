package histogram

import (
	"encoding/json"
	"maps"
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
		for _, n := range h.Drain() {
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

// TestLayouts: the way to a cell is a shortcut only, and the Standard layout divides at each
// of Linkerd's bounds.
func TestLayouts(t *testing.T) {
	for name, l := range map[string]*Layout{"standard": Standard, "fine": Fine} {
		if !slices.IsSorted(l.upper) || l.upper[0] <= 0 {
			t.Fatalf("%s: the bounds are not in order", name)
		}
		check := func(ns int64) {
			t.Helper()
			want, _ := slices.BinarySearch(l.upper, ns)
			if want = min(want, len(l.upper)-1); l.find(time.Duration(ns)) != want {
				t.Fatalf("%s: %d ns is in cell %d, want %d", name, ns, l.find(time.Duration(ns)), want)
			}
		}
		for _, bound := range l.upper {
			for off := int64(-1); off <= 1; off++ {
				check(bound + off)
			}
		}
		for ns := range int64(5000) {
			check(ns)
		}
		for shift := range 63 {
			check(1 << shift)
			check(1<<shift - 1)
		}
	}
	for _, bound := range Linkerd {
		if _, found := slices.BinarySearch(Standard.upper, int64(bound*1e6)); !found {
			t.Errorf("no cell ends at %v ms", bound)
		}
	}
}

// TestLinkerdsBuckets: the counts at Linkerd's bounds are exact.
func TestLinkerdsBuckets(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	var h Histogram
	var want, got [len(Linkerd)]uint64
	for n := range 100_000 {
		d := time.Duration(math.Exp(r.Float64() * math.Log(2e11)))
		if n%3 == 0 {
			d = time.Duration(Linkerd[r.IntN(len(Linkerd))]*1e6) + time.Duration(r.IntN(3)-1)
		}
		h.Observe(d)
		for i, bound := range Linkerd {
			if float64(d)/1e6 <= bound {
				want[i]++
			}
		}
	}
	if total := h.Cumulative(&got); total != 100_000 || got != want {
		t.Errorf("of %d:\n%v, want\n%v", total, got, want)
	}
}

// TestFine: the layout for measuring is sixteen times as fine.
func TestFine(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	var h, sum Histogram
	h.Init(Fine)
	var all []time.Duration
	for range 50_000 {
		all = append(all, time.Duration(5e6*math.Exp(0.8*r.NormFloat64())))
		h.Observe(all[len(all)-1])
	}
	slices.Sort(all)
	sum.Merge(&h)
	for _, q := range []float64{0.5, 0.99, 0.999} {
		got, want := sum.Quantile(q), all[int(math.Ceil(q*float64(len(all))))-1]
		if off := math.Abs(float64(got)/float64(want) - 1); off > 0.0028 {
			t.Errorf("quantile %v is %v, want %v: off by %.2f %%", q, got, want, 100*off)
		}
	}
	text, err := json.Marshal(&h)
	if err != nil {
		t.Fatal(err)
	}
	var back Histogram
	if err := json.Unmarshal(text, &back); err != nil || !maps.Equal(maps.Collect(h.Buckets()), maps.Collect(back.Buckets())) || back.Quantile(0.5) != h.Quantile(0.5) {
		t.Errorf("read again: %v, %d latencies, median %v; want %d, %v", err, back.Count(), back.Quantile(0.5), h.Count(), h.Quantile(0.5))
	}
	for _, text := range []string{`{"Schema":5}`, `{"Schema":7,"Buckets":[[99999,1]]}`, `{"Schema":3,"Buckets":[[0,-1]]}`, `{"SubBits":7,"Max":1}`, `[]`} {
		if err := json.Unmarshal([]byte(text), new(Histogram)); err == nil {
			t.Errorf("%s: got no error, want one", text)
		}
	}
}

// TestPacked: what was packed is what was counted, is shared until it is changed, and adds up.
func TestPacked(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 200 {
		var h Histogram
		for range r.IntN(40) {
			h.Add(MinBucket+r.IntN(MaxBucket-MinBucket+1), 1+uint64(math.Exp(r.Float64()*30)))
		}
		want := maps.Collect(h.Buckets())
		data, filled, total := Append([]byte{1, 2}, MinBucket, h.Buckets())
		p, rest, count, err := Cut(append(data[2:], 9), MinBucket, filled)
		if err != nil || total != h.Count() || count != total || len(rest) != 1 || filled != len(want) {
			t.Fatalf("%v: %d buckets of %d, then %d, %d bytes left; want %d", err, filled, total, count, len(rest), h.Count())
		}
		var a, b Histogram
		a.AddPacked(p)
		b.Merge(&a)
		if !maps.Equal(maps.Collect(b.Buckets()), want) || b.First() != h.First() || b.Quantile(0.9) != h.Quantile(0.9) {
			t.Fatalf("got %v, want %v", maps.Collect(b.Buckets()), want)
		}
		b.Add(3, 5)
		if want[3] += 5; !maps.Equal(maps.Collect(b.Buckets()), want) {
			t.Fatalf("got %v, want %v", maps.Collect(b.Buckets()), want)
		}
		if a.Merge(&b); a.Count() != 2*h.Count()+5 {
			t.Fatalf("%d latencies after adding, want twice %d and 5", a.Count(), h.Count())
		}
	}
}

func FuzzPacked(f *testing.F) {
	data, filled, _ := Append(nil, MinBucket, func(yield func(int, uint64) bool) { _ = yield(-20, 1) && yield(100, 1<<40) })
	f.Add(data, filled)
	f.Fuzz(func(t *testing.T, data []byte, filled int) {
		p, rest, _, err := Cut(data, MinBucket, filled)
		if err != nil {
			return
		}
		if len(rest) > len(data) {
			t.Fatal("more is left than there was")
		}
		var h Histogram
		h.AddPacked(p)
		for bucket := range h.Buckets() {
			if bucket < MinBucket || bucket > MaxBucket {
				t.Fatalf("bucket %d", bucket)
			}
		}
		h.Add(0, 1)
		_ = h.Quantile(0.5)
	})
}
