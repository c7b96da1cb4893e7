package server

import (
	"net"
	"sync"
	"time"
)

const (
	// maxQueued is how many connections of nodes' addresses may wait for their handshake.
	maxQueued = 16384
	// shakeAtOnce is how many of their handshakes run at once: so few that each of them is done
	// soon, also where the processors are busy, and more than the processors, because a part of
	// each is a wait for the client.
	shakeAtOnce = 32
	// maxFromNode is how many connections one address may have there. An agent has two or three,
	// and twice as many while another one takes over.
	maxFromNode = 8
	// shakeTime is for a handshake. That of strangers is shorter, because anybody may keep theirs.
	shakeTime = 10 * time.Second
	// maxWait is how long one waits. An agent has given up after 20 s, and the handshake of one
	// that has given up is in vain.
	maxWait = 15 * time.Second
)

// queue has the connections from nodes' addresses whose handshake has not begun. They have
// their turns in the order in which they came. When all agents of a large cluster connect at
// once, each so has its handshake after some seconds. If all of them ran at once, most would
// end too late, and be tried again, for ever.
//
// What comes from other addresses has no queue: whoever likes could fill it.
type queue struct {
	admit func(net.Conn)
	most  int // that wait
	turns int // that run at once
	wait  time.Duration

	mu      sync.Mutex
	waiting []queued // in order
	running int
	closed  bool
	done    sync.WaitGroup
	late    uint64 // closed, because they had waited too long or too many waited
}

type queued struct {
	conn net.Conn
	came time.Time
}

// put takes a connection, and closes it if too many wait.
func (q *queue) put(conn net.Conn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		_ = conn.Close()
		return
	case len(q.waiting) >= q.most:
		q.late++
		_ = conn.Close()
		return
	}
	q.waiting = append(q.waiting, queued{conn, time.Now()})
	if q.running < q.turns {
		q.running++
		q.done.Go(q.work)
	}
}

// work has turns until nothing waits.
func (q *queue) work() {
	for {
		conn := q.next()
		if conn == nil {
			return
		}
		q.admit(conn)
	}
}

// next returns the connection whose turn it is; nil: none waits, and the caller's turns are over.
func (q *queue) next() net.Conn {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) > 0 {
		first := q.waiting[0]
		q.waiting[0] = queued{}
		q.waiting = q.waiting[1:]
		if time.Since(first.came) <= q.wait {
			return first.conn
		}
		q.late++
		_ = first.conn.Close()
	}
	q.waiting = nil
	q.running--
	return nil
}

// Late counts the connections that were closed before their turn.
func (q *queue) Late() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.late
}

// close closes what waits and what comes.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, w := range q.waiting {
		_ = w.conn.Close()
	}
	q.waiting = nil
}
