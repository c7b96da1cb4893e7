package lease

import "slices"

// Divide sets shares to the max-min fair division of capacity: nobody gets more than it
// wants, and nobody gets less than somebody else unless it wants less. What is left when all
// have what they want is divided evenly on top. capacity and wants are not negative. shares
// has the length of wants.
func Divide(capacity float64, wants, shares []float64) {
	left := fill(capacity, wants, shares)
	if len(wants) == 0 {
		return
	}
	each := left / float64(len(wants))
	for i := range shares {
		shares[i] += each
	}
}

// fill is Divide without the last step. It returns what is left.
func fill(capacity float64, wants, shares []float64) float64 {
	order := make([]int, len(wants))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case wants[a] < wants[b]:
			return -1
		case wants[a] > wants[b]:
			return 1
		}
		return a - b
	})
	for n, i := range order {
		shares[i] = min(wants[i], capacity/float64(len(order)-n))
		capacity = max(capacity-shares[i], 0)
	}
	return capacity
}
