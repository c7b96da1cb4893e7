package agent

import (
	"context"
	"net"
	"time"
)

// aside is a server beside the pods' traffic, which goes on whatever becomes of
// the server.
type aside struct {
	name   string
	opened net.Listener // to begin with; nil: none yet
	must   bool         // the agent ends if it cannot listen at its start
	open   func(ctx context.Context) (net.Listener, error)
	serve  func(ctx context.Context, ln net.Listener) error // until ctx ends, and closes ln
}

// asidePause is between the end of a server, or of an attempt to listen, and the
// next.
const asidePause = 2 * time.Second

// aside runs s until ctx ends. Once it listens it never fails: a lack of descriptors
// is waited out (listener.Patient), and a server that ended all the same is started
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
