package lease

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestDivide checks what makes a division max-min fair, for random wants.
func TestDivide(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const tiny = 1e-9
	for range 2000 {
		n := 1 + random.IntN(20)
		capacity := random.Float64() * 100
		wants, shares := make([]float64, n), make([]float64, n)
		sumWants := 0.0
		for i := range wants {
			if random.IntN(4) > 0 {
				wants[i] = math.Exp(random.Float64()*8 - 3)
			}
			sumWants += wants[i]
		}
		Divide(capacity, wants, shares)
		sum, most := 0.0, 0.0
		for _, s := range shares {
			sum, most = sum+s, max(most, s)
		}
		if sum > capacity+tiny || sum < capacity-tiny {
			t.Fatalf("%v of %v: shares add up to %v", wants, capacity, sum)
		}
		for i, s := range shares {
			if s < min(wants[i], capacity/float64(n))-tiny {
				t.Fatalf("%v of %v: %v is less than its fair part", wants, capacity, s)
			}
			if s < wants[i]-tiny && s < most-tiny {
				t.Fatalf("%v of %v: %v wants %v and has less than another", wants, capacity, s, wants[i])
			}
			if sumWants > capacity && s > wants[i]+tiny {
				t.Fatalf("%v of %v: %v is more than the %v that are wanted", wants, capacity, s, wants[i])
			}
		}
	}
	Divide(1, nil, nil)
}
