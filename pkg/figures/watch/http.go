package watch

import (
	"context"
	"net/http"
	"sync"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

const (
	// longest is after how long a stream ends. Its reader begins another one, and is asked
	// again whether it may.
	longest = 30 * time.Minute
	// idleAfter is the longest time that a stream stays silent: proxies on the way close
	// streams that are silent for longer.
	idleAfter = 20 * time.Second
	// writeTimeout bounds the time for a line: a reader that takes nothing ends.
	writeTimeout = 30 * time.Second
)

// Serve answers a request with the lines of a watch, and with an empty line where there
// was none for a while. The error means that nothing was written yet.
func (h *Hub) Serve(w http.ResponseWriter, r *http.Request, user string, q tapv1alpha1.FiguresQuery, every time.Duration) error {
	ctx, cancel := context.WithTimeout(r.Context(), longest)
	defer cancel()
	out := &lines{w: w, flush: http.NewResponseController(w)}
	defer out.close()
	err := h.Watch(ctx, user, q, every, out.write)
	if !out.begun && ctx.Err() == nil {
		return err
	}
	return nil
}

// lines writes lines to one reader.
type lines struct {
	w     http.ResponseWriter
	flush *http.ResponseController

	mu    sync.Mutex
	begun bool
	ended bool
	idle  *time.Timer
}

func (l *lines) write(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return http.ErrServerClosed
	}
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", tapv1alpha1.MediaFigures)
		l.w.Header().Set("Cache-Control", "no-store")
		l.idle = time.AfterFunc(idleAfter, func() { _ = l.write([]byte("\n")) })
	}
	l.idle.Reset(idleAfter)
	// Not every ResponseWriter has a deadline; the one of a server has.
	_ = l.flush.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := l.w.Write(line); err != nil {
		return err
	}
	return l.flush.Flush()
}

// close stops the timer, so that it does not write to a response that has ended.
func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.idle != nil {
		l.idle.Stop()
	}
	_ = l.flush.SetWriteDeadline(time.Time{})
}
