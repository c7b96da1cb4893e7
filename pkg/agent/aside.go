package agent

import (
	"context"
	"net"
	"time"
)

// aside is a server beside the pods' traffic: the traffic does not depend on it.
type aside struct {
	name   string
	opened net.Listener // what it begins with; nil: open makes it
	must   bool         // the agent ends if the first open fails
	open   func(ctx context.Context) (net.Listener, error)
	serve  func(ctx context.Context, ln net.Listener) error // until ctx ends, and closes ln
}

// asidePause is the time between the end of a server, or a failure to listen, and the
// next attempt.
const asidePause = 2 * time.Second

// aside runs s until ctx ends. Once it listens it never fails: it waits out a lack of
// descriptors (listener.Patient), and starts a server that ended for another cause
// again.
func (a *Agent) aside(s aside) func(context.Context) error {
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
