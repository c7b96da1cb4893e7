package quota

import (
	"cmp"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
)

// accounts are the accounts of processor time of the pods. They outlive the pods'
// connections, so that what a pod has used can be told when it is idle, and so that its
// pooled connections to endpoints charge the same account as its next session. Retain
// deletes those of pods that have ended. Pods.mu guards the maps.
type accounts struct {
	byPod   map[Key]*account
	weights map[string]int // by UID
}

type account struct {
	*fairshare.Account
	handshakes atomic.Int64 // nanoseconds
}

// account returns the account of a pod in a direction. mu is held.
func (p *Pods) account(key Key) *account {
	a := p.accounts.byPod[key]
	if a == nil {
		if p.accounts.byPod == nil {
			p.accounts.byPod = make(map[Key]*account)
		}
		a = &account{Account: p.Shares.Account()}
		if weight, ok := p.accounts.weights[key.UID]; ok {
			a.SetWeight(weight)
		}
		p.accounts.byPod[key] = a
	}
	return a
}

// Account returns the account of a pod's processor time in a direction. It is nil if there are
// no Shares.
func (p *Pods) Account(key Key) *fairshare.Account {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.account(key).Account
}

// SetWeight sets a pod's weight, in the units of fairshare.Account.SetWeight.
func (p *Pods) SetWeight(uid string, weight int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.accounts.weights == nil {
		p.accounts.weights = make(map[string]int)
	}
	p.accounts.weights[uid] = weight
	for key, a := range p.accounts.byPod {
		if key.UID == uid {
			a.SetWeight(weight)
		}
	}
}

// Retain deletes the accounts and weights of the pods for whose UID keep returns false,
// except those of pods that have connections.
func (p *Pods) Retain(keep func(uid string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	connected := make(map[string]bool)
	for key := range p.byKey {
		connected[key.UID] = true
	}
	gone := func(uid string) bool { return !connected[uid] && !keep(uid) }
	for key := range p.accounts.byPod {
		if gone(key.UID) {
			delete(p.accounts.byPod, key)
		}
	}
	for uid := range p.accounts.weights {
		if gone(uid) {
			delete(p.accounts.weights, uid)
		}
	}
}

// Handshake charges a pod with time that an mTLS handshake has computed. This time does not
// count for the pod's share of the processors, because handshakes have turns of their own
// (mtls.Gate).
func (p *Pods) Handshake(key Key, spent time.Duration) {
	p.mu.Lock()
	a := p.account(key)
	p.mu.Unlock()
	a.handshakes.Add(int64(spent))
}

// Used is what a pod uses in one direction. Connections, Descriptors, Streams, Bytes and
// Sources are what it has now, and the others sums since its account exists.
type Used struct {
	Key
	Weight      int
	Connections int
	Descriptors int
	Streams     int   // of HTTP/2 that are open
	Bytes       int64 // that wait for a receiver, or for the rest of a head
	Sources     int   // who uses these connections

	Work       time.Duration // of goroutines for the pod: wall-clock time between waits
	Handshakes time.Duration // of mTLS, likewise
	Waited     time.Duration // for turns at the processors, of all goroutines together
	Waits      uint64
}

// All returns what each pod uses that has, or had, connections. They are in the
// order of their UIDs.
func (p *Pods) All() iter.Seq[Used] {
	p.mu.Lock()
	all := make([]Used, 0, len(p.accounts.byPod))
	for key, a := range p.accounts.byPod {
		used := a.Used()
		one := Used{
			Key: key, Weight: a.Weight(),
			Work: used.Processor, Handshakes: time.Duration(a.handshakes.Load()), Waited: used.Waited, Waits: used.Waits,
		}
		if of := p.byKey[key]; of != nil {
			one.Connections, one.Descriptors, one.Sources = of.conns, of.descriptors, len(of.sources)
			one.Streams, one.Bytes = int(of.streams.Load()), of.held.Load()
		}
		all = append(all, one)
	}
	p.mu.Unlock()
	slices.SortFunc(all, func(a, b Used) int {
		return cmp.Or(cmp.Compare(a.UID, b.UID), cmp.Compare(a.Direction, b.Direction))
	})
	return slices.Values(all)
}
