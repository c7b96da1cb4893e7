package fairshare

import (
	"slices"
	"testing"
	"time"
)

// TestOnCrowd: a crowd is reported once when many tasks wait, and its end once some time
// after that.
func TestOnCrowd(t *testing.T) {
	s, holder := held()
	var got []bool
	s.OnCrowd(func(crowd bool) { got = append(got, crowd) })
	expect := func(when string, want ...bool) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", when, got, want)
		}
	}
	at := now()
	judge := func(later time.Duration) {
		at += int64(later)
		s.judge(at, int64(window))
	}
	account := func() *Account { // that is not behind, or it would get a spare slot
		a := s.Account()
		a.virtual = s.virtual
		return a
	}
	c := crowd{t: t, s: s}
	c.wait("few", account(), many-1)
	judge(window)
	expect("few tasks wait")
	c.wait("one more", account(), 1)
	judge(window)
	judge(window)
	expect("many tasks wait", true)
	holder.Pause()
	c.tasks.Wait()
	judge(afterwards / 2)
	expect("soon after", true)
	judge(afterwards)
	judge(afterwards)
	expect("later", true, false)

	holder.Resume()
	again := crowd{t: t, s: s}
	again.wait("many", account(), many)
	judge(window)
	expect("a crowd again", true, false, true)
	holder.Pause()
	again.tasks.Wait()
}

// TestOnContention: contention is reported once when the tasks of two accounts are busy, and
// its end once some time after that. One account is no contention.
func TestOnContention(t *testing.T) {
	s := New(2)
	var got []bool
	s.OnContention(func(contended bool) { got = append(got, contended) })
	expect := func(when string, want ...bool) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", when, got, want)
		}
	}
	a, b := s.Account(), s.Account()
	at := now()
	judge := func(later time.Duration, who ...*Account) {
		at += int64(later)
		s.window.Store(at)
		for _, account := range who {
			s.paused(account, at)
		}
		s.mu.Lock()
		s.used = -int64(time.Hour) // the program was busy
		s.mu.Unlock()
		s.judge(at, int64(window))
	}
	judge(window, a, a)
	expect("one account")
	judge(window, a, b)
	judge(window, b, a)
	expect("two accounts", true)
	judge(afterwards/2, a)
	expect("soon after", true)
	judge(afterwards, a)
	judge(afterwards, a)
	expect("later", true, false)
}
