// Package watch streams figures: an answer for each step, as JSON lines over plain HTTP.
// All who watch the same question share one answer for each step, so that many open
// browsers cost the agents as much as one.
package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// Limits of a Hub.
const (
	MaxWatchers      = 256 // in all
	MaxOfUser        = 32  // watchers of one user
	MaxQuestions     = 64  // different ones
	MaxQuestionsUser = 16  // of these, those that were begun for one user
)

const (
	// minStep is the least time between two answers, delay how long after a step's end the
	// question for it is asked: the clocks of agents may be apart by two seconds.
	minStep = tapv1alpha1.MinStep
	delay   = 3 * time.Second
	// askTimeout bounds one question.
	askTimeout = 15 * time.Second
	// maxAtOnce bounds the questions that are asked at the same time. All are due at the end
	// of a step: the others wait.
	maxAtOnce = 16
)

// Hub has what is being watched. Ask must be set; it is called with a question whose End
// is set, and returns what is written as JSON.
type Hub struct {
	Ask func(ctx context.Context, q tapv1alpha1.FiguresQuery) (any, error)

	mu        sync.Mutex
	questions map[string]*question
	watchers  int
	users     map[string]int // watchers
	turns     chan struct{}  // has an element for each question that is being asked
}

// question is what one or more watchers watch.
type question struct {
	query tapv1alpha1.FiguresQuery
	every time.Duration
	user  string // for whom it was begun
	stop  context.CancelFunc

	watchers map[*watcher]struct{}
	last     []byte // the newest line; nil: there is none yet
}

// watcher gets lines. next has room for one: a slow watcher gets the newest one.
type watcher struct{ next chan []byte }

// ErrTooMany is the error of a watch that would exceed a limit.
var ErrTooMany = errors.New("too much is being watched")

// Query completes the parameters of a watch: as those of …/figures, without an end. Each
// answer is of a window that ends with the step; without a window it is of the step alone.
// every is the time between two answers: the step, or ten seconds.
func Query(q tapv1alpha1.FiguresQuery, windowGiven bool) (_ tapv1alpha1.FiguresQuery, every time.Duration, err error) {
	every = max(q.Step, minStep)
	switch {
	case !q.End.IsZero():
		return q, 0, errors.New("parameter end: what is watched is the present")
	case !windowGiven:
		q.Window, q.Step = every, 0
	}
	if q.Window > tapv1alpha1.AgentsRemember {
		return q, 0, fmt.Errorf("parameter window=%v: want at most %v, which agents remember", q.Window, tapv1alpha1.AgentsRemember)
	}
	return q, every, nil
}

// Watch calls send with a line for each step until ctx ends or send fails, and returns the
// reason. The first line comes at once. user is who is charged for it.
func (h *Hub) Watch(ctx context.Context, user string, q tapv1alpha1.FiguresQuery, every time.Duration, send func([]byte) error) error {
	w, question, err := h.join(user, q, every)
	if err != nil {
		return err
	}
	defer h.leave(user, w, question)
	for {
		select {
		case line := <-w.next:
			if err := send(line); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (h *Hub) join(user string, q tapv1alpha1.FiguresQuery, every time.Duration) (*watcher, string, error) {
	key := every.String() + "?" + q.Values().Encode()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers >= MaxWatchers || h.users[user] >= MaxOfUser {
		return nil, "", fmt.Errorf("%w: %d watchers, %d of them yours", ErrTooMany, h.watchers, h.users[user])
	}
	if h.questions == nil {
		h.questions, h.users, h.turns = map[string]*question{}, map[string]int{}, make(chan struct{}, maxAtOnce)
	}
	found := h.questions[key]
	if found == nil {
		own := 0
		for _, other := range h.questions {
			if other.user == user {
				own++
			}
		}
		if len(h.questions) >= MaxQuestions || own >= MaxQuestionsUser {
			return nil, "", fmt.Errorf("%w: %d different questions, %d of them yours", ErrTooMany, len(h.questions), own)
		}
		ctx, stop := context.WithCancel(context.Background()) // ends with the last watcher
		found = &question{query: q, every: every, user: user, stop: stop, watchers: map[*watcher]struct{}{}}
		h.questions[key] = found
		go h.run(ctx, found)
	}
	w := &watcher{make(chan []byte, 1)}
	if found.last != nil {
		w.next <- found.last
	}
	found.watchers[w] = struct{}{}
	h.watchers++
	h.users[user]++
	return w, key, nil
}

func (h *Hub) leave(user string, w *watcher, key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers--
	if h.users[user]--; h.users[user] == 0 {
		delete(h.users, user)
	}
	q := h.questions[key]
	delete(q.watchers, w)
	if len(q.watchers) == 0 {
		q.stop()
		delete(h.questions, key)
	}
}

// run asks a question for each step, and at once for the newest one that has ended.
func (h *Hub) run(ctx context.Context, q *question) {
	for {
		end := time.Now().Add(-delay).Truncate(q.every)
		if line := h.ask(ctx, q, end); ctx.Err() == nil {
			h.publish(q, line)
		}
		timer := time.NewTimer(time.Until(end.Add(q.every + delay)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// ask returns the answer as a line, or a Status that says why there is none. It returns nil
// after ctx has ended.
func (h *Hub) ask(ctx context.Context, q *question, end time.Time) []byte {
	select {
	case h.turns <- struct{}{}:
		defer func() { <-h.turns }()
	case <-ctx.Done():
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	query := q.query
	query.End = end
	answer, err := h.Ask(ctx, query)
	var line []byte
	if err == nil {
		line, err = json.Marshal(answer)
	}
	if err != nil {
		line, _ = json.Marshal(map[string]any{
			"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": http.StatusServiceUnavailable, "reason": "ServiceUnavailable", "message": err.Error(),
		})
	}
	return append(line, '\n')
}

// publish gives a line to all watchers. It replaces the one before, where a watcher has not
// taken it yet.
func (h *Hub) publish(q *question, line []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q.last = line
	for w := range q.watchers {
		select {
		case <-w.next:
		default:
		}
		w.next <- line
	}
}

// Watchers returns the number of watchers and of different questions.
func (h *Hub) Watchers() (watchers, questions int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.watchers, len(h.questions)
}
