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

// meter looks at processes of the mesh, or of another proxy, until stop.
type meter struct {
	pids     map[string][]int
	stopping chan struct{}
	ended    sync.WaitGroup

	mu  sync.Mutex
	now map[string]used
}

// watch begins to look at processes, by name.
func watch(t *testing.T, pids map[string][]int) *meter {
	t.Helper()
	m := &meter{pids: pids, stopping: make(chan struct{}), now: map[string]used{}}
	for name, pids := range pids {
		u, err := proc.Of(pids)
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
	for name, pids := range m.pids {
		u := m.now[name]
		if now, err := proc.Of(pids); err != nil {
			u.Gone = true
		} else {
			u.RSS, u.FDs = max(u.RSS, now.RSS), max(u.FDs, descriptors(pids))
		}
		m.now[name] = u
	}
}

// attacked counts the processor time from now until the returned function is called.
func (m *meter) attacked() (over func()) {
	before := map[string]time.Duration{}
	for name, pids := range m.pids {
		before[name], _ = processors(pids) // one that has ended: look says so
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for name, pids := range m.pids {
			if now, err := processors(pids); err == nil {
				u := m.now[name]
				u.CPU += now - before[name]
				m.now[name] = u
			}
		}
	}
}

// processors is the processor time that processes have had.
func processors(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		one, err := proc.CPU(pid)
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum, nil
}

// descriptors is how many files processes have open together.
func descriptors(pids []int) (n int) {
	for _, pid := range pids {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		// The kernel tells the number since Linux 6.2. To list 10,000 takes 8 ms and more of
		// a processor: ten times a second, of two agents, the quiet pods would feel it.
		if told, err := os.Stat(dir); err == nil && told.Size() > 0 {
			n += int(told.Size())
			continue
		}
		fds, _ := os.ReadDir(dir) // one that has ended has none
		n += len(fds)
	}
	return n
}

// stop ends it.
func (m *meter) stop() map[string]used {
	close(m.stopping)
	m.ended.Wait()
	m.look()
	return m.now
}

// TestDescriptors: files that are opened are counted.
func TestDescriptors(t *testing.T) {
	self := []int{os.Getpid()}
	before := descriptors(self)
	const more = 100
	for range more {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
	}
	// The runtime may open some of its own meanwhile.
	if n := descriptors(self) - before; n < more || n > more+10 {
		t.Errorf("%d descriptors more, want %d", n, more)
	}
}
