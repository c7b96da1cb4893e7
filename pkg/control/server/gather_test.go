package server

import (
	"testing"
	"testing/synctest"
	"time"
)

// awake returns how many streams were woken, and what they all got.
func (c *town) awake() (n, resources, removed int) {
	for i := range c.streams {
		select {
		case <-c.followers[i].wake:
			n++
			for _, d := range c.drain(i) {
				resources += len(d.resources)
				removed += len(d.removed)
			}
		default:
		}
	}
	return n, resources, removed
}

// TestWhatCanWaitIsGathered: an endpoint that is gone is told at once, with everything that has
// waited; one that is new waits only where the agent has just got something; and that a pod is
// ready waits for the Service that has it.
func TestWhatCanWaitIsGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTown(t, 50)
		for i := range c.streams {
			c.drain(i)
		}
		c.awake()
		expect := func(what string, agents, resources, removed int) {
			t.Helper()
			synctest.Wait()
			if n, r, g := c.awake(); n != agents || r != resources || g != removed {
				t.Errorf("%s: %d agents get %d resources and lose %d, want %d, %d and %d", what, n, r, g, agents, resources, removed)
			}
		}
		time.Sleep(time.Minute)
		c.flip(7) // it is behind Service 1, which ten agents use
		expect("a pod is not ready", 1, 1, 0)
		c.shrink(1)
		// The pod that is gone from it is 9, which its own node keeps.
		expect("an endpoint is gone", 10, 10+9, 9)
		time.Sleep(2 * gatherLater)
		expect("nothing is left", 0, 0, 0)

		c.shrink(1)
		expect("an endpoint is new, after a while", 10, 10+9, 0)
		c.shrink(1)
		expect("an endpoint is gone, a moment later", 10, 10, 9)
		c.shrink(1)
		expect("an endpoint is new, a moment later", 0, 0, 0)
		time.Sleep(gatherSoon)
		expect("it was told in time", 10, 10+9, 0)

		c.flip(8)
		expect("a pod is not ready", 1, 1, 0)
		time.Sleep(gatherLater - time.Millisecond)
		expect("it waits", 0, 0, 0)
		time.Sleep(time.Millisecond)
		expect("nothing else has come", 9, 9, 0)
		if behind, waiting := c.Server.streams.behind(); behind != 0 || waiting != 0 {
			t.Errorf("%d streams are behind, %d wait", behind, waiting)
		}
	})
}

// TestBehindAndWaiting: who waits for more is not behind.
func TestBehindAndWaiting(t *testing.T) {
	c := newTown(t, 50)
	for i := range c.streams {
		c.drain(i)
	}
	c.awake()
	c.flip(7)
	if behind, waiting := c.Server.streams.behind(); behind != 1 || waiting != 9 {
		t.Errorf("%d streams are behind and %d wait, want 1 and 9", behind, waiting)
	}
	c.followers[20].owes.Store(time.Now().Add(-3 * answerWithin).UnixNano())
	if behind, _ := c.Server.streams.behind(); behind != 2 {
		t.Errorf("%d streams are behind, want that which has not answered, too", behind)
	}
}

// TestManyMentions: a stream that was told more than it keeps looks at everything.
func TestManyMentions(t *testing.T) {
	c := newTown(t, 50)
	for i := range c.streams {
		c.drain(i)
	}
	for range mostMentions {
		c.flip(7)
	}
	c.flip(6)
	f := c.followers[8]
	if f.news.wide&wideAll == 0 || len(f.news.mentions) != 0 {
		t.Errorf("%d mentions are kept, wide %b", len(f.news.mentions), f.news.wide)
	}
	if deltas := c.drain(8); len(deltas) != 1 || len(deltas[0].resources) != 1 {
		t.Errorf("it gets %v", deltas)
	}
	if f.concerned() {
		t.Error("it is told again what it has taken")
	}
}
