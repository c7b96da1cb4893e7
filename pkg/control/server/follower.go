package server

import (
	"sync"
	"sync/atomic"
	"time"
)

// follower is a stream as seen by a fanout.
type follower struct {
	id   streamID
	node string
	wake chan struct{} // receives when the stream is to look at the newest snapshot
	// busy: the agent has not answered everything that it should have answered by now. It is set
	// before news are taken.
	busy   atomic.Bool
	leaves atomic.Bool // it is to end: see Server.MoveOn
	// owes is when the first of the deltas was sent whose answer may come late, and has not
	// come: nanoseconds of Unix time. 0: there is none.
	owes atomic.Int64

	mu    sync.Mutex
	news  news
	awake bool             // wake has received, or will, and the stream has not taken the news since
	waits [gatherings]bool // in which lists of the fanout it is
	sent  time.Time        // when its last delta was sent
}

// news are what the published snapshots have changed for a stream since it took them last.
type news struct {
	mentions []mention
	wide     wide
}

// mention is something that the agent has and that has changed: a resource, or if it is a Service
// which workloads are behind it.
type mention struct {
	name     string
	relinked bool
	gone     []string // of relinked: the workloads that are not behind it any more
}

// wide says why the agent may lack more than what is mentioned: the stream then looks at
// everything that the agent is to have.
type wide uint8

const (
	wideAll     wide = 1 << iota
	wideBacked       // if it is the agent of an ingress: other Services have an address as an endpoint
	widePorted       // if it uses the address of a node: other Services have node ports
	wideEgress       // if it understands EgressNetworks
	wideNothing wide = 0
)

// most mentions of a stream. An agent that is further behind gets the difference to all.
const mostMentions = 64

func (n *news) empty() bool { return len(n.mentions) == 0 && n.wide == wideNothing }

// add adds what another publication has changed.
func (n *news) add(m mention, w wide) {
	n.wide |= w
	switch {
	case n.wide&wideAll != 0:
		n.mentions = n.mentions[:0]
	case m.name == "":
	case len(n.mentions) >= mostMentions:
		n.wide, n.mentions = wideAll, n.mentions[:0]
	default:
		n.mentions = append(n.mentions, m)
	}
}

// take moves the news of f to n, whose memory it keeps for the next ones.
func (f *follower) take(n *news) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.awake = false
	clear(n.mentions)
	spare := n.mentions[:0]
	if cap(spare) > mostMentions/4 {
		spare = nil // it was an exception
	}
	*n, f.news = f.news, news{mentions: spare}
}

// concerned reports whether there are news.
func (f *follower) concerned() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.news.empty()
}

// hasSent notes that a delta goes out, whose answer may come late or not.
func (f *follower) hasSent(now time.Time, late bool) {
	f.mu.Lock()
	f.sent = now
	f.mu.Unlock()
	if late {
		f.owes.CompareAndSwap(0, now.UnixNano())
	}
}

// answered notes that the agent has answered, everything or not.
func (f *follower) answered(everything bool) {
	if everything {
		f.owes.Store(0)
	} else if f.owes.Load() != 0 {
		f.owes.Store(time.Now().UnixNano())
	}
}

// behind reports whether the agent lacks something that it should have, or has not answered
// in time; waits reports whether it is to get something that waits for more.
func (f *follower) behind(now time.Time) (behind, waits bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	owes := f.owes.Load()
	behind = f.awake || f.busy.Load() || owes != 0 && now.Sub(time.Unix(0, owes)) > 2*answerWithin
	return behind, !behind && !f.news.empty()
}
