package upstream

import "github.com/underlane/underlane/pkg/mtls"

// Threads is told which goroutines compute for long, so that their threads let others go
// before them.
type Threads interface {
	// Compute reports whether Computed must be called before the goroutine waits or ends.
	Compute() bool
	Computed()
}

// computing is a handshake's turn at the gate, whose thread is told while it computes. The
// handshake's goroutine calls its methods.
type computing struct {
	*mtls.Turn
	threads Threads // nil: none is told
	told    bool
}

func (c *computing) begin() {
	if c.threads != nil {
		c.told = c.threads.Compute()
	}
}

func (c *computing) end() {
	if c.told {
		c.told = false
		c.threads.Computed()
	}
}

// Pause is mtls.Turn.Pause.
func (c *computing) Pause() {
	c.end()
	c.Turn.Pause()
}

// Resume is mtls.Turn.Resume.
func (c *computing) Resume() {
	c.Turn.Resume()
	c.begin()
}
