package hostile

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/test/bench/proc"
)

// meterEvery is how often processes are looked at.
const meterEvery = 100 * time.Millisecond

// used is what a process has used while it was looked at.
type used struct {
	CPU    time.Duration // processor time under attack
	RSS    uint64        // bytes, at most
	Before uint64        // of these, at the beginning
	FDs    int           // at most
	Gone   bool
}

// meter looks at processes of the mesh until stop.
type meter struct {
	pids     map[string]int
	stopping chan struct{}
	ended    sync.WaitGroup

	mu  sync.Mutex
	now map[string]used
}

// watch begins to look at processes, by name.
func watch(t *testing.T, pids map[string]int) *meter {
	t.Helper()
	m := &meter{pids: pids, stopping: make(chan struct{}), now: map[string]used{}}
	for name, pid := range pids {
		u, err := proc.Of([]int{pid})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m.now[name] = used{Before: u.RSS}
	}
	m.ended.Go(func() {
		tick := time.NewTicker(meterEvery)
		defer tick.Stop()
		for {
			m.look()
			select {
			case <-m.stopping:
				return
			case <-tick.C:
			}
		}
	})
	return m
}

func (m *meter) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, pid := range m.pids {
		u := m.now[name]
		now, err := proc.Of([]int{pid})
		fds, ferr := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil || ferr != nil {
			u.Gone = true
		} else {
			u.RSS, u.FDs = max(u.RSS, now.RSS), max(u.FDs, len(fds))
		}
		m.now[name] = u
	}
}

// attacked counts the processor time from now until the returned function is called.
func (m *meter) attacked() (over func()) {
	before := map[string]time.Duration{}
	for name, pid := range m.pids {
		before[name], _ = proc.CPU(pid) // one that has ended: look says so
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for name, pid := range m.pids {
			if now, err := proc.CPU(pid); err == nil {
				u := m.now[name]
				u.CPU += now - before[name]
				m.now[name] = u
			}
		}
	}
}

// stop ends it.
func (m *meter) stop() map[string]used {
	close(m.stopping)
	m.ended.Wait()
	m.look()
	return m.now
}
