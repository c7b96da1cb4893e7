package request

import "github.com/underlane/underlane/pkg/l7proxy/conn"

// Rest is a session that goes on without the goroutine that has begun to serve it: it carries
// nothing for the moment.
type Rest interface {
	// GoOn has over called when the session has ended, in a goroutine that may wait. It gets what
	// has panicked; nil: nothing has.
	GoOn(over func(*conn.Defect))
}
