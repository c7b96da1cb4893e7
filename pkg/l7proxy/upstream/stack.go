package upstream

import (
	"fmt"
	"runtime/debug"
)

// onItsOwnStack calls f in a goroutine of its own and waits for it. A handshake needs a
// stack of 16 to 32 KiB. The goroutine of a connection would keep that until the garbage
// collector shrinks it, half of it each time: in a storm of handshakes, stacks would be
// much of what the agent has. A panic of f goes on in the caller.
func onItsOwnStack(f func() error) error {
	type outcome struct {
		err    error
		defect any
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if defect := recover(); defect != nil {
				o.defect = fmt.Sprintf("%v\n%s", defect, debug.Stack())
			}
			done <- o
		}()
		o.err = f()
	}()
	o := <-done
	if o.defect != nil {
		panic(o.defect)
	}
	return o.err
}
