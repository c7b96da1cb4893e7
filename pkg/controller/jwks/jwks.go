// Package jwks fetches the public keys with which tokens are verified, and keeps them
// current: the controller does so, and the agents get them with the policies. A node needs no
// way to an issuer.
//
// Keys are fetched again at an interval, and earlier when an agent has seen a token with a
// key that is not among them, but no earlier than StalePause after the last time. Those that
// were fetched last stay in force while their source cannot be reached or sends something
// else.
package jwks

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/policy/authz"
)

// Bounds.
const (
	MaxSources = 256              // that are fetched; the rules of others have no keys
	Refresh    = 20 * time.Minute // after a success, up to a tenth less
	RetryFirst = 5 * time.Second  // after a failure; then twice the last pause
	RetryMost  = 5 * time.Minute
	StalePause = 30 * time.Second // between two fetches because of a key that is not known
	Timeout    = 5 * time.Second  // of one fetch, where a rule has none of its own
	MaxTimeout = 10 * time.Second // that a rule may have: fetches of others wait for it
	atOnce     = 8                // fetches
	maxURL     = 2048             // bytes of a source
)

// Keys has the keys of the sources that rules name.
type Keys struct {
	client  *http.Client
	log     *slog.Logger
	changes chan struct{}
	wake    chan struct{} // receives when something may be due earlier
	slots   chan struct{} // holds one element for each fetch that is under way

	mu      sync.Mutex
	sources map[string]*source
	done    sync.Cond // something was fetched, or failed
}

// source is where keys are fetched from.
type source struct {
	keys     string // "": none were fetched yet
	timeout  time.Duration
	others   int    // keys that are not supported
	problem  string // of the last fetch
	tried    bool
	fetching bool
	last     time.Time // begin of the last fetch
	due      time.Time
	pause    time.Duration // after the last failure
}

// New returns Keys without a source. transport makes the requests; nil: Transport.
func New(transport http.RoundTripper, log *slog.Logger) *Keys {
	if transport == nil {
		transport = Transport()
	}
	k := &Keys{
		client:  &http.Client{Transport: transport, CheckRedirect: checkRedirect},
		log:     log,
		changes: make(chan struct{}, 1), wake: make(chan struct{}, 1), slots: make(chan struct{}, atOnce),
		sources: map[string]*source{},
	}
	k.done.L = &k.mu
	return k
}

// Changes returns a channel that receives after keys or problems changed.
func (k *Keys) Changes() <-chan struct{} { return k.changes }

// Fill sets the keys of all rules with a source, and makes these sources those that are
// fetched. It returns what is wrong with them.
func (k *Keys) Fill(specs map[string]*authz.Spec) []authz.Problem {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.want(specs)
	var problems []authz.Problem
	for _, uid := range slices.Sorted(maps.Keys(specs)) {
		rules := specs[uid].Tokens
		for i := range rules {
			if rules[i].Source == "" {
				continue
			}
			problem := ""
			if s := k.sources[rules[i].Source]; s == nil {
				problem = fmt.Sprintf("the controller fetches keys from at most %d addresses: no token is good", MaxSources)
			} else {
				rules[i].Keys = s.keys
				problem = s.trouble()
			}
			if problem != "" {
				problems = append(problems, authz.Problem{Policy: rules[i].Policy, Field: "jwksUri " + rules[i].Source, Text: problem})
			}
		}
	}
	slices.SortFunc(problems, func(a, b authz.Problem) int {
		return cmp.Or(cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Field, b.Field))
	})
	return slices.Compact(problems)
}

// trouble says what is wrong with a source, "" if nothing is.
func (s *source) trouble() string {
	switch {
	case s.problem == "" && s.keys == "" && !s.tried:
		return "" // the first fetch is under way
	case s.problem == "":
		return ""
	case s.keys == "":
		return s.problem + ": no token is good"
	}
	return s.problem + ": the keys that were fetched last stay in force"
}

// want makes the sources of specs those that are fetched.
func (k *Keys) want(specs map[string]*authz.Spec) {
	wanted := map[string]time.Duration{} // the longest of the rules' timeouts
	for _, spec := range specs {
		for i := range spec.Tokens {
			if r := &spec.Tokens[i]; r.Source != "" {
				wanted[r.Source] = max(wanted[r.Source], min(cmp.Or(r.Timeout, Timeout), MaxTimeout))
			}
		}
	}
	maps.DeleteFunc(k.sources, func(at string, _ *source) bool { return wanted[at] == 0 })
	for _, at := range slices.Sorted(maps.Keys(wanted)) {
		if k.sources[at] == nil && len(k.sources) < MaxSources {
			k.sources[at] = &source{}
			k.wakeUp()
		}
		if s := k.sources[at]; s != nil {
			s.timeout = wanted[at]
		}
	}
}

// Stale tells that a token with a key was seen which the source did not have when it was
// fetched last. An agent says so, so that it may be a lie.
func (k *Keys) Stale(at string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.sources[at]
	if s == nil || s.fetching {
		return
	}
	if due := s.last.Add(StalePause); s.problem == "" && due.Before(s.due) {
		s.due = due
		k.wakeUp()
	}
}

// Await waits until each source was tried, or ctx ends.
func (k *Keys) Await(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.done.Broadcast()
	})
	defer stop()
	k.mu.Lock()
	defer k.mu.Unlock()
	for ctx.Err() == nil && slices.ContainsFunc(slices.Collect(maps.Values(k.sources)), func(s *source) bool { return !s.tried }) {
		k.done.Wait()
	}
}

// Run fetches until ctx ends, and returns its error.
func (k *Keys) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		at, timeout, wait := k.next(time.Now())
		if at != "" {
			select {
			case k.slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			running.Go(func() {
				defer func() { <-k.slots }()
				k.update(ctx, at, timeout)
			})
			continue
		}
		select {
		case <-time.After(wait):
		case <-k.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// next returns a source that is to be fetched now, and how long that may take, or how long
// none is.
func (k *Keys) next(now time.Time) (at string, timeout, wait time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	wait = time.Hour
	for name, s := range k.sources {
		if s.fetching {
			continue
		}
		if left := s.due.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		s.fetching, s.last = true, now
		return name, s.timeout, 0
	}
	return "", 0, wait
}

// update fetches the keys of a source.
func (k *Keys) update(ctx context.Context, at string, timeout time.Duration) {
	keys, others, err := k.fetch(ctx, at, timeout)
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.done.Broadcast()
	defer k.wakeUp()
	s := k.sources[at]
	if s == nil || ctx.Err() != nil {
		return // it is not wanted any more
	}
	was := *s
	s.fetching, s.tried = false, true
	if err != nil {
		s.pause = min(max(2*s.pause, RetryFirst), RetryMost)
		s.due, s.problem = now.Add(s.pause), shorten(err.Error())
	} else {
		s.pause, s.problem, s.keys, s.others = 0, "", keys, others
		s.due = now.Add(Refresh - time.Duration(rand.Int64N(int64(Refresh/10))))
	}
	if s.keys != was.keys || s.problem != was.problem {
		k.log.Info("keys of tokens", "source", at, "changed", s.keys != was.keys, "unsupported", s.others, "problem", s.problem)
		notify(k.changes)
	}
}

func (k *Keys) wakeUp() { notify(k.wake) }

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// maxProblem bounds what is shown of a failure, in bytes.
const maxProblem = 300

func shorten(s string) string { return s[:min(len(s), maxProblem)] }
