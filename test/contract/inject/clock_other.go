//go:build !amd64

package inject

import (
	"errors"
	"time"
)

// HasClock is set if the clock of a process can be stepped on this architecture.
const HasClock = false

// Clock is the wall clock of one process.
type Clock struct{}

// OpenClock fails: the code that goes into a process is that of amd64.
func OpenClock(int) (*Clock, error) { return nil, errors.ErrUnsupported }

// Step fails.
func (*Clock) Step(time.Duration) error { return errors.ErrUnsupported }
