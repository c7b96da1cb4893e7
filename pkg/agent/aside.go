package agent

import (
	"context"
	"net"
	"time"
)

// aside is a server that the pods' traffic does not depend on.
type aside struct {
	name   string
	opened net.Listener // the first listener; nil: open makes it
	must   bool         // the agent ends if the first open fails
	open   func(ctx context.Context) (net.Listener, error)
	serve  func(ctx context.Context, ln net.Listener) error // serves until ctx ends, and closes ln
}

// asidePause is the time from the end of a server, or from a failure to listen, to the
// next attempt.
const asidePause = 2 * time.Second

// aside runs s until ctx ends. After it has listened once it never fails: it waits while
// there are no descriptors (listener.Patient), and restarts a server that ended for
// another cause.
func (a *components) aside(s aside) func(context.Context) error {
	return func(ctx context.Context) error {
		logged := ""
		for ln := s.opened; ; ln = nil {
			var err error
			if ln == nil {
				if ln, err = s.open(ctx); err != nil && s.must {
					return err
				}
			}
			s.must = false
			if err == nil {
				err = s.serve(ctx, a.conns.Patient(ln))
			}
			if ctx.Err() != nil {
				return nil
			}
			if text := "it ended"; err == nil || err.Error() != logged {
				if err != nil {
					text = err.Error()
				}
				logged = text
				a.log.Error("a server beside the traffic is not served: trying again", "server", s.name, "err", text)
			}
			select {
			case <-time.After(asidePause):
			case <-ctx.Done():
				return nil
			}
		}
	}
}
