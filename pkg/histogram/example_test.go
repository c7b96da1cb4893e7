package histogram_test

import (
	"fmt"
	"time"

	"github.com/underlane/underlane/pkg/histogram"
)

func ExampleHistogram() {
	var h, other histogram.Histogram
	for range 99 {
		h.Observe(2 * time.Millisecond)
	}
	other.Observe(300 * time.Millisecond)
	h.Merge(&other)
	fmt.Println(h.Count(), "latencies, the highest at most", h.Max().Round(time.Millisecond))
	fmt.Println("half of them below", h.Quantile(0.5).Round(100*time.Microsecond))
	// Output:
	// 100 latencies, the highest at most 304ms
	// half of them below 1.9ms
}

func ExampleBucketOf() {
	bucket := histogram.BucketOf(900 * time.Microsecond)
	fmt.Println(bucket, histogram.UpperBound(bucket-1).Round(time.Microsecond), histogram.UpperBound(bucket).Round(time.Microsecond))
	// Output: -1 841µs 917µs
}
