package script

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// many makes requests, as many at a time as the peer allows, and notes what
// became of how many.
func (e *end) many(s *step) error {
	h := e.conn.h2
	n, err := s.number(0)
	if h == nil || err != nil {
		return fmt.Errorf("many wants h2 first, and a number: %w", err)
	}
	var patience time.Duration
	if text, ok := s.option("reset"); ok {
		if patience, err = time.ParseDuration(text); err != nil {
			return err
		}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	counts := map[string]int{}
	for range n {
		wg.Go(func() {
			how := h.call(s.word(1), s.word(2), e.deadline(), patience)
			mu.Lock()
			defer mu.Unlock()
			counts[how]++
		})
	}
	wg.Wait()
	for _, how := range slices.Sorted(maps.Keys(counts)) {
		e.note("many: %d × %s", counts[how], how)
	}
	return nil
}

// call makes one request, and resets it after some patience.
func (h *h2) call(method, path string, deadline time.Time, patience time.Duration) string {
	st, err := h.request(method, path, []arg{{text: "end"}}, deadline)
	switch {
	case st == nil:
		return "not opened"
	case err != nil:
		return how(err)
	}
	until := deadline
	if patience != 0 {
		until = time.Now().Add(patience)
	}
	over := h.wait(until, func() bool { return st.over() || h.err != nil })
	if !over && patience != 0 {
		if err := h.reset(st, http2.ErrCodeCancel); err != nil {
			return how(err)
		}
		return "reset"
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(st.heads) > 0 {
		return st.heads[0] + " " + h.outcome(st)
	}
	return h.outcome(st)
}

// serve answers every stream with 200 and "ok", after a while if it has delay=.
// Those to /hang are neither answered nor read, those to /big get ten megabytes.
func (e *end) serve(s *step) error {
	h := e.conn.h2
	if h == nil {
		return fmt.Errorf("serve before h2")
	}
	var delay time.Duration
	if text, ok := s.option("delay"); ok {
		var err error
		if delay, err = time.ParseDuration(text); err != nil {
			return err
		}
	}
	e.job.settle()
	stop := make(chan struct{})
	go func() {
		<-e.job.ctx.Done()
		h.update(func() { close(stop) })
	}()
	for {
		var st *stream
		hang, body := false, "ok"
		h.wait(time.Now().Add(time.Hour), func() bool {
			select {
			case <-stop:
				return true
			default:
			}
			if len(h.incoming) > 0 {
				st, h.incoming = h.incoming[0], h.incoming[1:]
				hang = len(st.heads) == 0 || strings.Contains(st.heads[0], "/hang")
				st.stalled = hang
				if len(st.heads) > 0 && strings.Contains(st.heads[0], "/big") {
					body = pattern(10 << 20)
				}
			}
			return st != nil || h.err != nil
		})
		if st == nil {
			return nil
		}
		if hang {
			continue
		}
		go func() {
			time.Sleep(delay)
			if h.head(st.id, []hpack.HeaderField{{Name: ":status", Value: "200"}}, nil) == nil {
				h.data(st, []byte(body), true, e.deadline())
			}
		}()
	}
}
