// Package quota limits how much of the node's proxy one pod, and one source of clients,
// uses, so that enough is left for the others: connections, descriptors, streams, and
// bytes that wait. A pod has a limit of its own, which does not depend on others. What is
// shared (the descriptors and the memory of the node, and the connections to a pod) is
// divided by dynamic thresholds (Choudhury and Hahne 1998): a source may have a multiple
// of what is free. One alone gets most of it, several get equal parts, and there is always
// some left for the next one.
package quota

import (
	"container/list"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/mesh"
)

// Errors of Enter: why a connection is refused.
var (
	ErrConnections = errors.New("the pod has as many connections as it may (--pod-connections)")
	ErrSource      = errors.New("the client has too large a part of the pod's connections (--pod-connections)")
	ErrDescriptors = errors.New("the client has too large a part of the agent's file descriptors")
)

// MaxStreams is the number of HTTP/2 streams that a pod may have open at once, in each
// direction. A stream that carries nothing takes some 2 KiB.
const MaxStreams = 50_000

// Multiples of what is free that one source may have.
const (
	provedFactor   = 2 // whose client it is is known
	strangerFactor = 1
)

// Key is a pod and a direction.
type Key struct {
	UID       string
	Direction mesh.Direction
}

// Pods has the usage of all pods that have connections. The zero value is ready to use
// when its limits are set.
type Pods struct {
	MaxConns    int // connections of a pod in each direction
	MaxBuffered int // bytes that wait, of a pod in each direction; while there are more, no further request begins
	Descriptors int // of all connections; 0: no limit. Half of them is for clients that have proved nothing, at most
	Memory      int // bytes that wait, of all pods; 0: no limit

	Shares *fairshare.Scheduler // of the processors; nil: pods take what they want

	held atomic.Int64 // bytes that wait

	mu          sync.Mutex
	byKey       map[Key]*pod
	accounts    accounts
	descriptors shares
	strangers   shares // the part of descriptors that clients have that have proved nothing

	refusedConns       [2]atomic.Uint64 // outbound, inbound
	refusedSources     atomic.Uint64
	refusedDescriptors atomic.Uint64
	refusedStreams     atomic.Uint64
	refusedMany        atomic.Uint64
	evictedSilent      atomic.Uint64
	ended              atomic.Uint64
}

// pod is what a pod uses in one direction.
type pod struct {
	key     Key
	held    atomic.Int64       // bytes that wait
	widened atomic.Int64       // bytes that may wait, by Widen
	streams atomic.Int64       // of HTTP/2 that are open
	account *fairshare.Account // of processor time

	// Pods.mu guards these.
	conns       int
	descriptors int
	sources     map[Source]*party
}

// party is what one source uses of a pod in one direction.
type party struct {
	held    atomic.Int64
	widened atomic.Int64
	framing framing

	// Pods.mu guards these.
	conns  int
	silent list.List // of *Usage: connections that have said nothing, the oldest first
}

// Usage is what a connection is charged to. A nil Usage has no limits.
type Usage struct {
	pods        *Pods
	pod         *pod
	party       *party
	source      Source
	descriptors int         // of the client's connection
	reserved    atomic.Bool // one more, for the connection to the endpoint; see Open
	silence     silence
}

// Enter counts a connection of a pod, until Leave. from is the client, descriptors how many
// file descriptors its connection takes: none if it is a stream of one that is counted
// already. Another one is reserved for the connection to the endpoint, until Open takes it
// or Settle gives it back. If the client has as much as it may, a connection of its own that
// has said nothing is closed for the new one (see Silent). The error is ErrConnections,
// ErrSource or ErrDescriptors.
func (p *Pods) Enter(key Key, from Source, descriptors int) (*Usage, error) {
	p.mu.Lock()
	u, err := p.enter(key, from, descriptors)
	var victims []*Usage
	for err != nil && len(victims) < victimsMost {
		v := p.oldestSilent(key, from)
		if v == nil {
			break
		}
		v.evicted()
		victims = append(victims, v)
		u, err = p.enter(key, from, descriptors)
	}
	p.countRefusal(key, err)
	p.mu.Unlock()
	for _, v := range victims {
		v.silence.evict()
	}
	return u, err
}

// enter is Enter with what is free. mu is held.
func (p *Pods) enter(key Key, from Source, descriptors int) (*Usage, error) {
	one := p.byKey[key]
	u := &Usage{pods: p, pod: one, descriptors: descriptors}
	u.reserved.Store(true)
	if one == nil {
		u.pod = &pod{key: key, account: p.account(key).Account, sources: make(map[Source]*party)}
	}
	if u.pod.conns >= p.MaxConns {
		return nil, ErrConnections
	}
	if err := u.join(from, u.pod.conns); err != nil {
		return nil, err
	}
	if one == nil {
		if p.byKey == nil {
			p.byKey = make(map[Key]*pod)
		}
		p.byKey[key] = u.pod
	}
	u.pod.conns++
	u.pod.descriptors += u.taken()
	return u, nil
}

// taken is the number of descriptors that the connection is counted with. Pods.mu is held.
func (u *Usage) taken() int {
	if u.reserved.Load() {
		return u.descriptors + 1
	}
	return u.descriptors
}

// join counts the connection to its source. others is the number of the pod's other
// connections. Pods.mu is held.
func (u *Usage) join(from Source, others int) error {
	p, of := u.pods, u.pod.sources[from]
	if of == nil {
		of = &party{}
	}
	if from.Pod == "" && of.conns+1 > factor(from)*(p.MaxConns-others) {
		return ErrSource
	}
	if !p.takeDescriptors(from, u.taken()) {
		return ErrDescriptors
	}
	if of.conns++; of.conns == 1 {
		u.pod.sources[from] = of
	}
	u.source, u.party = from, of
	return nil
}

// part takes the connection from its source. Pods.mu is held.
func (u *Usage) part() {
	u.pods.giveDescriptors(u.source, u.taken())
	if u.party.conns--; u.party.conns == 0 {
		delete(u.pod.sources, u.source)
	}
}

// Move counts the connection to another source, because its client has proved an identity.
// Nothing may be charged to it yet. The error is one of Enter; the connection then still
// counts to the source that it had.
func (u *Usage) Move(to Source) error {
	if u == nil || u.source == to {
		return nil
	}
	u.pods.mu.Lock()
	defer u.pods.mu.Unlock()
	from, party := u.source, u.party
	if err := u.join(to, u.pod.conns-1); err != nil {
		u.pods.countRefusal(u.pod.key, err)
		return err
	}
	to, of := u.source, u.party
	u.source, u.party = from, party
	u.part()
	u.source, u.party = to, of
	return nil
}

// Account returns what the pod's processor time is charged to. It is nil for a nil Usage.
func (u *Usage) Account() *fairshare.Account {
	if u == nil {
		return nil
	}
	return u.pod.account
}

// Leave ends the connection that Enter has counted. It does nothing for a nil Usage.
func (u *Usage) Leave() {
	if u == nil {
		return
	}
	u.pods.mu.Lock()
	defer u.pods.mu.Unlock()
	if u.silence.ended {
		return
	}
	u.endSilence()
	u.leave()
}

// leave is Leave. Pods.mu is held.
func (u *Usage) leave() {
	u.part()
	u.pod.descriptors -= u.taken()
	u.reserved.Store(false) // an Open that comes later counts its own
	u.pod.conns--
	u.pods.forget(u.pod)
}

// forget drops a pod that uses nothing. mu is held.
func (p *Pods) forget(one *pod) {
	if one.conns == 0 && one.descriptors == 0 && p.byKey[one.key] == one {
		delete(p.byKey, one.key)
	}
}

func index(d mesh.Direction) int {
	if d == mesh.Inbound {
		return 1
	}
	return 0
}

func factor(s Source) int {
	if s.Proved() {
		return provedFactor
	}
	return strangerFactor
}

// shares divides a number between sources. To hash a Source takes longer than all else that
// take and give do.
type shares struct {
	used     int
	bySource map[Source]*int
}

// take takes n for the source, of total. It returns false if the source would have more
// than it may. There is no limit if total is 0.
func (s *shares) take(source Source, n, total int) bool {
	has := s.bySource[source]
	if has == nil {
		has = new(int)
	}
	if total > 0 && *has+n > factor(source)*(total-s.used) {
		return false
	}
	if *has == 0 && n > 0 {
		if s.bySource == nil {
			s.bySource = make(map[Source]*int)
		}
		s.bySource[source] = has
	}
	s.used += n
	*has += n
	return true
}

func (s *shares) give(source Source, n int) {
	s.used -= n
	if has := s.bySource[source]; has != nil {
		if *has -= n; *has <= 0 {
			delete(s.bySource, source)
		}
	}
}

// Of returns how much a pod uses in a direction: connections, and bytes that wait.
func (p *Pods) Of(key Key) (conns int, held int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one := p.byKey[key]; one != nil {
		conns, held = one.conns, one.held.Load()
	}
	return conns, held
}

// BeginStream counts a stream of HTTP/2 in; EndStream takes it back. It returns false, and
// counts the refusal, if the pod has as many as it may, or more bytes wait than may.
func (u *Usage) BeginStream() bool {
	switch {
	case u == nil:
		return true
	case u.OverLimit():
		u.pods.refusedStreams.Add(1)
		return false
	case u.pod.streams.Add(1) > MaxStreams:
		u.pod.streams.Add(-1)
		u.pods.refusedMany.Add(1)
		return false
	}
	return true
}

// EndStream is the end of BeginStream.
func (u *Usage) EndStream() {
	if u != nil {
		u.pod.streams.Add(-1)
	}
}

// RefusedConns counts connections that were refused in a direction.
func (p *Pods) RefusedConns(d mesh.Direction) uint64 { return p.refusedConns[index(d)].Load() }

// RefusedSources counts connections that were refused because their client has too large a
// part of a pod's connections.
func (p *Pods) RefusedSources() uint64 { return p.refusedSources.Load() }

// RefusedDescriptors counts connections that were refused because their client has too
// large a part of the descriptors.
func (p *Pods) RefusedDescriptors() uint64 { return p.refusedDescriptors.Load() }

// RefusedStreams counts requests that were refused because too many bytes wait.
func (p *Pods) RefusedStreams() uint64 { return p.refusedStreams.Load() }

// RefusedMany counts requests that were refused because a pod had too many streams.
func (p *Pods) RefusedMany() uint64 { return p.refusedMany.Load() }

// Ended counts requests that were ended because too many bytes wait.
func (p *Pods) Ended() uint64 { return p.ended.Load() }
