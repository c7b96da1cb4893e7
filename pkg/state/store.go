package state

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Store holds the current View of one node. It is safe for concurrent use.
type Store struct {
	node string
	view atomic.Pointer[View]

	mu       sync.Mutex // guards what follows; View never takes it
	names    map[string]Resource
	index    index
	watchers map[chan struct{}]struct{}
}

// NewStore returns an empty Store for the node of this name.
func NewStore(node string) *Store {
	s := &Store{
		node:     node,
		names:    map[string]Resource{},
		index:    newIndex(),
		watchers: map[chan struct{}]struct{}{},
	}
	s.view.Store(&View{})
	return s
}

// Node returns the node's name, as given to NewStore.
func (s *Store) Node() string { return s.node }

// View returns the current state. It costs one atomic load.
func (s *Store) View() *View { return s.view.Load() }

// Apply applies d to the current state. If it returns an error, nothing has changed.
func (s *Store) Apply(d Delta) error {
	for i := range d.Resources {
		if err := d.Resources[i].check(); err != nil {
			return fmt.Errorf("apply version %d: %w", d.Version, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := make(map[string]replaced, len(d.Resources)+len(d.Removed))
	change := func(name string, now Resource) {
		was, again := changed[name]
		if !again {
			was.before = s.names[name]
		}
		changed[name] = replaced{was.before, now}
	}
	for _, r := range d.Resources {
		if old, ok := s.names[r.Name]; ok && old.Version == r.Version {
			continue
		}
		change(r.Name, r)
		s.names[r.Name] = r
	}
	for _, name := range d.Removed {
		if _, ok := s.names[name]; ok {
			change(name, Resource{})
			delete(s.names, name)
		}
	}
	last := s.View()
	next := s.index.build(last, s.names, changed, s.node)
	next.version = last.version + 1
	next.upstream = d.Version
	next.synced = last.synced || d.Synced
	s.view.Store(next)
	for w := range s.watchers {
		select {
		case w <- struct{}{}:
		default: // a signal is pending already, and it stands for this change too
		}
	}
	return nil
}

// Versions returns the version of each resource in the Store, by name. A client sends them
// to the controller to resume.
func (s *Store) Versions() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	versions := make(map[string]string, len(s.names))
	for name, r := range s.names {
		versions[name] = r.Version
	}
	return versions
}

// Watch returns a channel that receives after the View changed. Changes are
// coalesced: read View after each receive. cancel ends the watch; the channel
// is never closed.
func (s *Store) Watch() (changes <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers[c] = struct{}{}
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, c)
	}
}
