package h2

import (
	"math"
	"strconv"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
)

// The field grpc-timeout tells a gRPC call's deadline. Client and server both end the call
// themselves at that time. The proxy ends it only if neither has done so DeadlineGrace
// later. Each client's connection checks its calls every DeadlineLook, because a timer for
// each call would cost more than the rest of the call.
const (
	DeadlineGrace = time.Second
	DeadlineLook  = time.Second
)

// grpcTimeout parses the value of grpc-timeout (PROTOCOL-HTTP2 of gRPC). It returns false
// if the value is empty, malformed, or too long for a time.Duration.
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

// deadlines checks the deadlines of a connection's calls. The connection's lock guards it.
type deadlines struct {
	timer    *time.Timer
	watching bool // the timer runs
	more     bool // a call with a deadline began since the last check
}

// boundCall notes the deadline of a gRPC call, and has it checked.
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

// lookLater starts the timer of the next check. The caller holds the connection's lock.
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

// endLateCalls ends the calls whose deadline passed more than DeadlineGrace ago.
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

// stopLooking stops the checks, at the end of the connection.
func (srv *session) stopLooking() {
	srv.Lock()
	defer srv.Unlock()
	if srv.deadlines.timer != nil {
		srv.deadlines.timer.Stop()
	}
}
