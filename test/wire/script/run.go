package script

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

// job is a script at work, in a client or a server.
type job struct {
	order Order
	say   func(Event)
	began time.Time
	ctx   context.Context // ends with Finish
	stop  context.CancelFunc

	settle  func() // a server is through with a connection's script
	settled chan struct{}

	mu    sync.Mutex
	marks map[string]chan struct{}
	notes []Note
}

func newJob(o Order, say func(Event)) *job {
	j := &job{order: o, began: time.Now(), marks: map[string]chan struct{}{}, settled: make(chan struct{})}
	j.settle = sync.OnceFunc(func() { close(j.settled) })
	j.say = func(e Event) { e.Job = o.Job; say(e) }
	j.ctx, j.stop = context.WithCancel(context.Background())
	return j
}

func (j *job) mark(name string) chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.marks[name] == nil {
		j.marks[name] = make(chan struct{})
	}
	return j.marks[name]
}

// told sets a mark, again perhaps.
func (j *job) told(name string) {
	ch := j.mark(name)
	j.mu.Lock()
	defer j.mu.Unlock()
	select {
	case <-ch:
	default:
		close(ch)
	}
}

// finish ends the job when its scripts are through. What a client has sent may
// be on its way to the server still: the server waits for the first connection.
func (j *job) finish() {
	if j.order.Role == "server" {
		select {
		case <-j.settled:
		case <-time.After(j.order.Limit):
		}
	}
	j.stop()
}

func (j *job) note(n Note) {
	n.At = time.Since(j.began)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.notes = append(j.notes, n)
}

func (j *job) run() {
	var err error
	if j.order.Role == "server" {
		err = j.serve()
	} else {
		err = j.dialAndPlay()
	}
	e := Event{Done: true}
	if err != nil {
		e.Error = err.Error()
	}
	j.mu.Lock()
	e.Notes = j.notes
	j.mu.Unlock()
	j.say(e)
}

func (j *job) dialAndPlay() error {
	steps, err := parse(j.order.Script)
	if err != nil {
		return err
	}
	e := &end{job: j, conns: map[string]*conn{}, options: optionsOf(steps)}
	defer e.closeAll()
	if err := e.dial("first", false, false); err == nil {
		err = e.play(steps)
		if err != nil && !errors.Is(err, errEnded) {
			return err
		}
	}
	j.say(Event{Through: true})
	<-j.ctx.Done()
	return nil
}

func (j *job) serve() error {
	scripts, err := parseServer(j.order.Script)
	if err != nil {
		return err
	}
	config := net.ListenConfig{Control: optionsOf(scripts[0]).control}
	l, err := config.Listen(j.ctx, "tcp", ":"+strconv.Itoa(j.order.Port))
	if err != nil {
		return err
	}
	listeners := []net.Listener{l}
	if optionsOf(scripts[0]).second {
		other, err := config.Listen(j.ctx, "tcp", ":"+strconv.Itoa(j.order.Port+secondPort))
		if err != nil {
			l.Close()
			return err
		}
		listeners = append(listeners, other)
	}
	conns := make(chan *net.TCPConn)
	var wg, accepting sync.WaitGroup
	for _, l := range listeners {
		context.AfterFunc(j.ctx, func() { l.Close() })
		accepting.Go(func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				conns <- c.(*net.TCPConn)
			}
		})
	}
	go func() {
		accepting.Wait()
		close(conns)
	}()
	j.say(Event{Listening: true})
	var failed error
	var order struct {
		sync.Mutex
		next int
	}
	n := -1
	for c := range conns {
		n++
		number := n
		wg.Go(func() {
			e := &end{job: j, number: number, conns: map[string]*conn{"first": newConn(c)}}
			e.conn = e.conns["first"]
			defer e.closeAll()
			if e.wait(scripts) {
				return
			}
			order.Lock()
			i := min(order.next, len(scripts)-1)
			if !e.silent() {
				order.next++
			}
			order.Unlock()
			if err := e.play(scripts[i]); err != nil && !errors.Is(err, errEnded) {
				j.mu.Lock()
				failed = err
				j.mu.Unlock()
			}
			j.settle()
			<-j.ctx.Done()
		})
	}
	wg.Wait()
	return failed
}

// errEnded ends a script whose last step went wrong, which is noted.
var errEnded = errors.New("the script ended early")

// end is a script at work on its connections.
type end struct {
	job     *job
	number  int // of a server's connection
	conns   map[string]*conn
	name    string // of the connection in use, "" for the first
	conn    *conn
	options options
}

// wait waits for the first byte of a server's connection if the scripts begin
// with reading. It says whether the job is over instead.
func (e *end) wait(scripts [][]step) bool {
	if slices.ContainsFunc(scripts, readsFirst) {
		return e.conn.idle(e.job.ctx)
	}
	return false
}

func readsFirst(steps []step) bool {
	for _, s := range steps {
		switch s.verb {
		case "rcvbuf", "sndbuf", "second", "oobinline", "nagle":
		default:
			return slices.Contains([]string{"recv", "loop", "end", "h2"}, s.verb)
		}
	}
	return false
}

func (e *end) silent() bool { return e.conn.err != nil && len(e.conn.buf) == 0 }

func (e *end) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if e.name != "" {
		text = e.name + ": " + text
	}
	e.job.note(Note{Conn: e.number, Text: text, Silent: e.conn != nil && e.conn.read == 0 && e.job.order.Role == "server"})
}

func (e *end) closeAll() {
	for _, c := range e.conns {
		c.Close()
	}
}

func (e *end) play(steps []step) error {
	for i := range steps {
		run := verbs[steps[i].verb]
		if run == nil {
			return fmt.Errorf("there is no step %q", steps[i].verb)
		}
		if err := run(e, &steps[i]); err != nil {
			if errors.Is(err, errEnded) {
				e.closeAll()
			}
			return err
		}
	}
	return nil
}

func (e *end) deadline() time.Time { return time.Now().Add(e.job.order.Limit) }

// secondPort is how far a server's second port is from its first.
const secondPort = 20_000

// dial makes a connection. With own its source port is the number of the server's
// port, which no other job of the pod uses; with second it is to the server's
// second port.
func (e *end) dial(name string, own, second bool) error {
	o := e.options
	d := net.Dialer{Deadline: e.deadline(), Control: o.control}
	addr, err := netip.ParseAddrPort(e.job.order.Addr)
	if err != nil {
		return err
	}
	if own {
		d.LocalAddr = &net.TCPAddr{Port: int(addr.Port())}
	}
	if second {
		addr = netip.AddrPortFrom(addr.Addr(), addr.Port()+secondPort)
	}
	if e.name = name; name == "first" {
		e.name = ""
	}
	e.conn = nil
	c, err := d.Dial("tcp", addr.String())
	if err != nil {
		e.note("connect: %s", how(err))
		return errEnded
	}
	e.conn = newConn(c.(*net.TCPConn))
	e.conns[name] = e.conn
	return nil
}

// shown is what a note says of bytes.
func shown(b []byte) string {
	if len(b) <= 400 {
		return strconv.Quote(string(b))
	}
	return fmt.Sprintf("%q… %d bytes, sum %s", b[:40], len(b), sum(b))
}
