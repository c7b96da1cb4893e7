package h2

import (
	"math"
	"strconv"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
)

// A gRPC call has its deadline in grpc-timeout, and client and server act upon
// it themselves: the proxy only ends a call that both have left alone for a
// while after it. That is looked for now and then on each client's connection,
// for a timer a call would cost more than all else about it.
const (
	DeadlineGrace = time.Second
	DeadlineLook  = time.Second
)

// grpcTimeout is the value of grpc-timeout (PROTOCOL-HTTP2 of gRPC). False:
// there is none, or it is malformed, or longer than can be said.
func grpcTimeout(value string) (time.Duration, bool) {
	const digits = 8
	if len(value) < 2 || len(value) > digits+1 {
		return 0, false
	}
	n, err := strconv.ParseUint(value[:len(value)-1], 10, 32)
	if err != nil {
		return 0, false
	}
	var unit time.Duration
	switch value[len(value)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	if n > uint64(math.MaxInt64/unit)/2 { // there is room for the time of day
		return 0, false
	}
	return time.Duration(n) * unit, true
}

// deadlines watches the deadlines of a connection's calls. The connection's mu
// guards it.
type deadlines struct {
	timer    *time.Timer
	watching bool
	more     bool // a call with a deadline came since the last look
}

// boundCall makes a gRPC call end by its deadline.
func (st *stream) boundCall() {
	d, ok := grpcTimeout(fieldValue(st.fields, "grpc-timeout"))
	if !ok {
		return
	}
	st.due(d)
	srv := st.client
	srv.Lock()
	defer srv.Unlock()
	srv.deadlines.more = true
	if !srv.deadlines.watching {
		srv.lookLater()
	}
}

// lookLater is called with mu held.
func (srv *session) lookLater() {
	d := &srv.deadlines
	d.watching = !srv.Closed()
	switch {
	case srv.Closed():
	case d.timer == nil:
		d.timer = time.AfterFunc(DeadlineLook, srv.endLateCalls)
	default:
		d.timer.Reset(DeadlineLook)
	}
}

// endLateCalls ends what is long past its deadline.
func (srv *session) endLateCalls() {
	srv.Lock()
	srv.deadlines.more = false
	srv.Unlock()
	all := srv.streams.All()
	var b h2conn.Batch
	left := false
	for _, st := range all {
		st.mu.Lock()
		switch {
		case st.deadline == 0 || st.ended:
		case balance.Now()-st.deadline < DeadlineGrace:
			left = true
		default:
			st.requestLate(&b)
		}
		st.mu.Unlock()
	}
	b.Flush()
	srv.Lock()
	defer srv.Unlock()
	srv.deadlines.watching = false
	if left || srv.deadlines.more {
		srv.lookLater()
	}
}

// stopLooking is for the end of the connection.
func (srv *session) stopLooking() {
	srv.Lock()
	defer srv.Unlock()
	if srv.deadlines.timer != nil {
		srv.deadlines.timer.Stop()
	}
}
