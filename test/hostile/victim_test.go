package hostile

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// The quiet client makes requests on a kept connection to each server, and some on new
// connections.
const (
	keptEvery  = 5 * time.Millisecond
	freshEvery = 50 * time.Millisecond
	answerTime = 10 * time.Second // an answer that takes longer counts as none
)

// sample is a request of the quiet client.
type sample struct {
	Server string
	Fresh  bool
	At     time.Time // it was due
	Took   time.Duration
	Err    string `json:",omitempty"`
}

// beVictim makes requests to all servers of the order until it is told to end.
func beVictim(o order) []sample {
	var mu sync.Mutex
	var all []sample
	told := untilTold()
	var wg sync.WaitGroup
	for name, addr := range o.Addrs {
		for _, fresh := range []bool{false, true} {
			wg.Go(func() {
				mine := pace(addr, fresh, told)
				mu.Lock()
				defer mu.Unlock()
				for _, s := range mine {
					s.Server = name
					all = append(all, s)
				}
			})
		}
	}
	wg.Wait()
	return all
}

// pace makes requests at fixed times. One that is due while the one before it has no
// answer yet waits, and that counts. That this process gets the processor late does not.
func pace(addr string, fresh bool, told <-chan struct{}) (out []sample) {
	every := keptEvery
	if fresh {
		every = freshEvery
	}
	c := &client{addr: addr}
	defer c.close()
	due := time.Now()
	for {
		select {
		case <-told:
			return out
		case <-time.After(time.Until(due)):
		}
		at := due
		if len(out) == 0 || out[len(out)-1].At.Add(out[len(out)-1].Took).Before(due) {
			at = time.Now()
		}
		err := c.get()
		s := sample{Fresh: fresh, At: at, Took: time.Since(at)}
		if err != nil {
			s.Err = err.Error()
		}
		out = append(out, s)
		if fresh || err != nil {
			c.close()
		}
		due = due.Add(every)
		// What is late by more than a second is not made up for: fewer requests are made.
		if time.Since(due) > time.Second {
			due = time.Now()
		}
	}
}

// client is an HTTP/1.1 client of one connection.
type client struct {
	addr string
	c    net.Conn
	r    *bufio.Reader
}

func (c *client) close() {
	if c.c != nil {
		c.c.Close()
		c.c = nil
	}
}

func (c *client) get() error {
	if c.c == nil {
		nc, err := net.DialTimeout("tcp", c.addr, answerTime)
		if err != nil {
			return err
		}
		c.c, c.r = nc, bufio.NewReader(nc)
	}
	if err := c.c.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	if _, err := io.WriteString(c.c, "GET /bytes/1 HTTP/1.1\r\nHost: server\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("status %s, %s", resp.Status, resp.Header.Get("Underlane-Reason"))
	}
	err = errors.Join(err, resp.Body.Close())
	if resp.Close { // nginx ends a connection after 1,000 requests
		c.close()
	}
	return err
}

// span is a time during which the quiet client is looked at.
type span struct{ from, to time.Time }

func (s span) has(at time.Time) bool { return !at.Before(s.from) && at.Before(s.to) }

// felt is what the quiet client felt: of one server and kind of connection.
type felt struct {
	P50, P99, Max time.Duration
	Rate          float64 // requests a second
	Count, Failed int
	Why           string // the first failure
}

// feel sums up the samples that were due in the spans.
func feel(all []sample, server string, fresh bool, spans []span) (f felt) {
	var took []time.Duration
	for _, s := range all {
		if s.Server != server || s.Fresh != fresh || !slices.ContainsFunc(spans, func(sp span) bool { return sp.has(s.At) }) {
			continue
		}
		f.Count++
		if s.Err != "" {
			f.Failed++
			f.Why = cmp.Or(f.Why, s.Err)
		}
		took = append(took, s.Took)
	}
	if len(took) == 0 {
		return f
	}
	var lasted time.Duration
	for _, sp := range spans {
		lasted += sp.to.Sub(sp.from)
	}
	f.Rate = float64(len(took)) / lasted.Seconds()
	slices.Sort(took)
	f.P50, f.P99, f.Max = took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
	return f
}
