// Package slow makes tests and the lab wait longer on a machine that is known to be slow,
// such as one whose processor is emulated (test/kernels).
package slow

import (
	"os"
	"strconv"
	"sync"
	"time"
)

// Variable is how many times as long everything may take there, a whole number.
const Variable = "UNDERLANE_TEST_SLOW"

// Times returns how long to wait on this machine for what takes up to d on others.
func Times(d time.Duration) time.Duration { return d * factor() }

var factor = sync.OnceValue(func() time.Duration { return parse(os.Getenv(Variable)) })

func parse(text string) time.Duration {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 1
	}
	return time.Duration(n)
}
