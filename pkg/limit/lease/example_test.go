package lease_test

import (
	"fmt"

	"github.com/underlane/underlane/pkg/limit/lease"
)

// Three nodes want 10, 50 and 100 requests a second of a limit of 100.
func ExampleDivide() {
	shares := make([]float64, 3)
	lease.Divide(100, []float64{10, 50, 100}, shares)
	fmt.Println(shares)
	lease.Divide(100, []float64{10, 20, 40}, shares)
	fmt.Println(shares)
	// Output:
	// [10 45 45]
	// [20 30 50]
}
