// Package load has the clients of the benchmark. Closed loops show the highest
// rate and its cost. An open loop shows how long users wait at a given rate.
package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/test/bench/calls"
	"github.com/underlane/underlane/test/bench/proc"
	"github.com/underlane/underlane/test/bench/work"
)

// Options describe a run of the clients.
type Options struct {
	Target netip.AddrPort
	Work   work.Work
	Rate   float64 // requests per second; 0: as many as possible
	Idle   int     // if set, no load but this many connections that are idle after one request
	Warm   time.Duration
	For    time.Duration
	Watch  []int // processes whose usage is measured during the run
	Calls  bool  // also count their system calls
}

// Result is the result of a run.
type Result struct {
	Requests uint64  // answered in the measured time; bytes if the work is volume
	Seconds  float64 // length of the measured time
	Errors   uint64  // wrong responses and broken connections
	Error    string  // the first error
	// Latency is the time from when a request was due to the last byte of its
	// response. In a closed loop a request is due when it is sent.
	Latency histogram.Histogram
	Late    histogram.Histogram // how late the clients themselves sent the requests
	Usage   proc.Usage          // of the watched processes
	Calls   map[string]uint64   // system calls of the watched processes, as from calls.Counter
	All     uint64              // all requests answered, including those before the measured time
	Growth  int64               // with Idle: growth of the watched processes' resident bytes
}

// counted is the result of one connection.
type counted struct {
	requests uint64
	all      uint64
	latency  histogram.Histogram
}

// run is a run in progress.
type run struct {
	Options
	ctx   context.Context
	base  time.Time
	phase atomic.Int32
	mu    sync.Mutex // of what follows
	links []link
	total Result
}

const (
	warming = iota
	measuring
	over
)

// Run generates the load and measures it.
func Run(ctx context.Context, o Options) (*Result, error) {
	r := &run{Options: o, ctx: ctx, base: time.Now()}
	r.total.Late.Init(histogram.Fine)
	defer r.closeAll()
	switch {
	case o.Idle > 0:
		return r.idle()
	case o.Rate > 0 && !o.Work.Paced():
		return nil, fmt.Errorf("the work %s has no rate", o.Work.Name)
	}
	serve := r.closedLoop
	n := o.Work.Conns
	if o.Rate > 0 {
		p := newPacer(r)
		serve = p.serve
		defer p.wait()
	}
	if err := r.settle(); err != nil {
		return nil, err
	}
	links := make([]link, n)
	for i := range links {
		var err error
		if links[i], err = r.open(); err != nil {
			return nil, err
		}
	}
	if err := r.prime(links); err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	for _, l := range links {
		wg.Go(func() { serve(l) })
	}
	err := r.measure()
	r.phase.Store(over)
	r.closeAll()
	wg.Wait()
	return &r.total, err
}

// settleTime is how long a mesh has after the first connection to a port.
const settleTime = 200 * time.Millisecond

// settle makes the first connection to the port.
func (r *run) settle() error {
	if !r.Work.Settles() {
		return nil
	}
	l, err := newLink(r.ctx, r.Options)
	if err != nil {
		return err
	}
	defer l.close()
	if err := ask(l); err != nil {
		return err
	}
	return sleep(r.ctx, settleTime)
}

// open returns a connection that is closed at the end of the run.
func (r *run) open() (link, error) {
	l, err := newLink(r.ctx, r.Options)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.links = append(r.links, l)
	return l, nil
}

func (r *run) closeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.links {
		l.close()
	}
	r.links = nil
}

// prime makes a request on each connection, so that handshakes are not measured.
// Many of them may take long.
func (r *run) prime(links []link) error {
	errs := make([]error, len(links))
	var wg sync.WaitGroup
	for i, l := range links {
		if _, ok := l.(*bulk); !ok {
			wg.Go(func() { errs[i] = ask(l) })
		}
	}
	wg.Wait()
	r.total.All = uint64(len(links))
	return errors.Join(errs...)
}

// ask makes a request and waits for the response.
func ask(l link) error {
	if err := l.send(0); err != nil {
		return err
	}
	if err := l.flush(); err != nil {
		return err
	}
	return l.receive(func(int64) {})
}

// measure times the run.
func (r *run) measure() error {
	if err := sleep(r.ctx, r.Warm); err != nil {
		return err
	}
	var counter *calls.Counter
	if r.Calls {
		var err error
		if counter, err = calls.Start(r.Watch); err != nil {
			return err
		}
	}
	before, err := proc.Of(r.Watch)
	if err != nil {
		return err
	}
	began := time.Now()
	r.phase.Store(measuring)
	if err := sleep(r.ctx, r.For); err != nil {
		return err
	}
	r.phase.Store(over)
	r.total.Seconds = time.Since(began).Seconds()
	after, err := proc.Of(r.Watch)
	if err != nil {
		return fmt.Errorf("a proxy has ended: %w", err)
	}
	r.total.Usage = after.Since(before)
	if counter != nil {
		r.total.Calls, err = counter.Stop()
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// now returns the time of the run, in nanoseconds.
func (r *run) now() int64 { return int64(time.Since(r.base)) }

func (r *run) add(c *counted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total.Requests += c.requests
	r.total.All += c.all
	r.total.Latency.Merge(&c.latency)
}

// failed records an error, unless the end of the run caused it.
func (r *run) failed(err error) {
	if err == nil || r.phase.Load() == over {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.total.Errors++; r.total.Error == "" {
		r.total.Error = err.Error()
	}
}

// closedLoop keeps a connection's requests in flight: it follows each response with
// the next request.
func (r *run) closedLoop(l link) {
	var c counted
	c.latency.Init(histogram.Fine)
	defer r.add(&c)
	if b, ok := l.(*bulk); ok {
		r.failed(b.pour(&c.requests, &r.phase))
		return
	}
	var err error
	send := func() {
		if r.phase.Load() != over {
			err = errors.Join(err, l.send(r.now()))
		}
	}
	for range r.Work.Streams {
		send()
	}
	for r.phase.Load() != over {
		if err = errors.Join(err, l.flush()); err != nil {
			break
		}
		if rerr := l.receive(func(at int64) {
			c.all++
			if r.phase.Load() == measuring {
				c.requests++
				c.latency.Observe(time.Duration(r.now() - at))
			}
			send()
		}); rerr != nil {
			err = rerr
			break
		}
	}
	r.failed(err)
}

// idle opens connections, makes one request on each, and then leaves them idle.
func (r *run) idle() (*Result, error) {
	before, err := proc.Of(r.Watch)
	if err != nil {
		return nil, err
	}
	tickets := make(chan struct{}, r.Idle)
	for range r.Idle {
		tickets <- struct{}{}
	}
	close(tickets)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range tickets {
				r.failed(r.once())
			}
		})
	}
	wg.Wait()
	if err := sleep(r.ctx, r.For); err != nil {
		return nil, err
	}
	after, err := proc.Of(r.Watch)
	if err != nil {
		return nil, err
	}
	r.phase.Store(over)
	r.total.Growth = int64(after.RSS) - int64(before.RSS)
	r.total.Usage = after
	r.total.Requests = uint64(r.Idle)
	return &r.total, nil
}

func (r *run) once() error {
	l, err := r.open()
	if err != nil {
		return err
	}
	return ask(l)
}
