// Package calls is what an agent remembers of the calls that authorization policies have
// judged: who called which port of which pod, with which method and path, what was decided,
// and by which rule. `underlane authz` and metrics show it, and policies that are not applied
// are judged by it. Only pods with policies have calls here.
//
// What clients send is bounded: paths become templates without the names of single things,
// each pod has a limited number of calls that are told apart, and what is beyond is folded,
// and then counted without details.
package calls

import (
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Bounds of a Store.
const (
	// Kept is how long a call is remembered.
	Kept = 15 * time.Minute
	// Step is the resolution of the counts.
	Step = 30 * time.Second

	slots = int(Kept/Step) + 1

	podPrecise = 96   // calls of a pod that are told apart
	podFolded  = 32   // and of it without paths, or clients' addresses
	allPrecise = 1000 // of all pods, beyond fewPrecise of each
	fewPrecise = 8
	allEntries = 1500
	maxMethod  = 16 // bytes
	maxHost    = 96
)

// Key is what calls that are counted together have in common.
type Key struct {
	Client mesh.Identity
	// Address is that of a client without an identity; zero: several.
	Address netip.Addr
	Port    uint16
	// Method is "" for a connection that is not read as requests, AnyMethod if it is not kept.
	Method string
	Host   string // without port, in lower case; "": not kept, or of a connection
	Path   string // a template; AnyPath if it is not kept; "" for a connection
}

// AnyMethod stands for a method that is not kept.
const AnyMethod = "*"

// Store remembers calls. See New.
type Store struct {
	now func() time.Time

	mu       sync.RWMutex
	pods     map[string]*pod // by UID
	entries  int
	findings map[authz.Decision]*authz.Finding
	totals   map[Total]*atomic.Uint64
	swept    int64 // step
	lost     uint64
}

type pod struct {
	calls   map[entryKey]*Entry
	precise int
	lost    uint64 // calls beyond the bounds
}

type entryKey struct {
	Key
	finding *authz.Finding
}

// New returns an empty Store. now is time.Now but in tests.
func New(now func() time.Time) *Store {
	return &Store{
		now: now, pods: map[string]*pod{}, findings: map[authz.Decision]*authz.Finding{}, totals: map[Total]*atomic.Uint64{},
	}
}

// maxFindings bounds the decisions that are told apart.
const maxFindings = 512

// finding returns the decision in words, mostly the same pointer for the same decision.
func (s *Store) finding(d *authz.Decision) *authz.Finding {
	s.mu.RLock()
	f := s.findings[*d]
	s.mu.RUnlock()
	if f != nil {
		return f
	}
	made := d.Finding()
	s.mu.Lock()
	defer s.mu.Unlock()
	if f = s.findings[*d]; f != nil {
		return f
	}
	if len(s.findings) >= maxFindings {
		clear(s.findings) // policies have come and gone
	}
	s.findings[*d] = &made
	return &made
}

// Judged counts a call that was decided. It returns its Entry, for its events; nil if there
// is no room for one. r is nil for a connection that is not read as requests. The texts of r
// are not kept. Judged allocates nothing for a call that is known.
func (s *Store) Judged(w *mesh.Workload, c *authz.Connection, id mesh.Identity, r *authz.Request, d *authz.Decision) *Entry {
	f := s.finding(d)
	var from netip.Addr
	if id.IsZero() {
		from = c.Client.Unmap().WithZone("")
	}
	k := entryKey{Key{Client: id, Address: from, Port: c.Port}, f}
	var path [maxPath]byte
	var host [maxHost]byte
	if r != nil {
		k.Method, k.Host, k.Path = methodOf(r.Method), hostOf(&host, r.Authority), template(&path, r.Path)
	}
	var e *Entry
	s.mu.RLock()
	if p := s.pods[w.UID]; p != nil {
		e = p.calls[k]
	}
	s.mu.RUnlock()
	if e == nil {
		// No variable of the lookup's key is used again: its texts would leave the stack.
		e = s.add(w, entryKey{Key{
			Client: id, Address: from, Port: c.Port,
			Method: strings.Clone(k.Method), Host: strings.Clone(k.Host), Path: strings.Clone(k.Path),
		}, f})
	}
	if e == nil {
		return nil
	}
	e.total.Add(1)
	e.count(s.step(), one)
	if !id.IsZero() {
		e.from(c.Client)
	}
	return e
}

// add adds an Entry for k, or for what k is folded to.
func (s *Store) add(w *mesh.Workload, k entryKey) *Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pods[w.UID]
	if p == nil {
		p = &pod{calls: map[entryKey]*Entry{}}
		s.pods[w.UID] = p
	}
	if s.entries >= allPrecise || len(p.calls) >= podPrecise {
		s.sweep()
		s.pods[w.UID] = p
	}
	for fold := range folds {
		k.fold(fold)
		if e := p.calls[k]; e != nil {
			return e
		}
		room := len(p.calls)-p.precise < podFolded
		if fold == 0 {
			room = p.precise < podPrecise && (s.entries < allPrecise || p.precise < fewPrecise)
		}
		if room && s.entries < allEntries {
			e := &Entry{Key: k.Key, Finding: k.finding, Pod: w, precise: fold == 0, total: s.total(w, k.finding)}
			e.last.Store(s.step())
			p.calls[k] = e
			s.entries++
			if e.precise {
				p.precise++
			}
			return e
		}
	}
	p.lost++
	s.lost++
	s.total(w, k.finding).Add(1)
	return nil
}

const folds = 4

// fold makes the key one of more calls. The steps follow each other.
func (k *Key) fold(step int) {
	switch {
	case step == 1 && k.Method != "":
		k.Path, k.Host = AnyPath, ""
	case step == 2:
		k.Address = netip.Addr{}
	case step == 3 && k.Method != "":
		k.Method = AnyMethod
	}
}

// sweep forgets calls that are too old.
func (s *Store) sweep() {
	now := s.step()
	if now == s.swept {
		return
	}
	s.swept = now
	for uid, p := range s.pods {
		for k, e := range p.calls {
			if e.last.Load() > now-int64(slots) || e.open.Load() > 0 {
				continue
			}
			delete(p.calls, k)
			s.entries--
			if e.precise {
				p.precise--
			}
		}
		if len(p.calls) == 0 {
			delete(s.pods, uid)
		}
	}
}

func (s *Store) step() int64 { return s.now().Unix() / int64(Step/time.Second) }

// Size estimates the memory of the Store, in bytes.
func (s *Store) Size() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	const perFinding = 1 << 10 // with the key of its map
	return s.entries*perEntry + len(s.findings)*perFinding + len(s.totals)*256
}
