package h2conn

// yields says whether it pays to let other goroutines run before output is sent: what they add
// goes out in the same record and system call. That depends on the load. A yield in vain costs
// little while the program is busy, and wakes a thread for nothing while it is not. So yields go
// on while a quarter of them or more gain something, and are otherwise tried now and then.
type yields struct {
	credit  int // what the last ones have gained
	skipped int // sends without one, since the last
}

const (
	yieldGain  = 3  // what one that has gained something is worth; one in vain costs 1
	yieldMost  = 12 // the most credit
	yieldAgain = 16 // without credit one of so many sends tries it
)

// pays reports whether the next send is to yield. paid must be called if it is.
func (y *yields) pays() bool {
	if y.credit > 0 {
		return true
	}
	if y.skipped++; y.skipped < yieldAgain {
		return false
	}
	y.skipped = 0
	return true
}

// paid notes whether a yield has gained something.
func (y *yields) paid(gained bool) {
	if gained {
		y.credit = min(y.credit+yieldGain, yieldMost)
	} else {
		y.credit = max(y.credit-1, 0)
	}
}
