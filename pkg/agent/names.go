package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/dnsname"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
)

// names knows by which names this node's pods have resolved addresses, from the DNS answers
// that the kernel has seen.
type names struct {
	pod func(cookie uint64) *mesh.Workload // nil for a namespace that is no enrolled pod's
	log *slog.Logger
	// wanted: answers over TCP are read, too, which pass through the proxy.
	wanted bool

	cache dnsname.Cache

	mu      sync.Mutex
	answers *redirect.Answers // nil while none are read
}

// Name implements request.Names. It reads first what has come, so that it knows the answer
// that the pod has just used.
func (n *names) Name(pod *mesh.Workload, addr netip.Addr) string {
	n.read()
	return n.cache.Name(pod.UID, addr, time.Now())
}

// read learns what has come.
func (n *names) read() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.answers == nil {
		return
	}
	now := time.Now()
	err := n.answers.Read(func(cookie uint64, message []byte) {
		if pod := n.pod(cookie); pod != nil {
			n.learn(pod, message, now)
		}
	})
	if err != nil {
		n.log.Warn("DNS answers cannot be read", "err", err)
	}
}

// Answers implements request.Names.
func (n *names) Answers(pod *mesh.Workload) func([]byte) {
	if !n.wanted {
		return nil
	}
	var stream dnsname.Stream
	learn := func(message []byte) { n.learn(pod, message, time.Now()) }
	return func(p []byte) { stream.Feed(p, learn) }
}

func (n *names) learn(pod *mesh.Workload, message []byte, now time.Time) {
	if answer, err := dnsname.Parse(message); err == nil {
		n.cache.Learn(pod.UID, &answer, now)
	} else {
		n.log.Debug("a DNS answer says nothing", "pod", pod.Name, "namespace", pod.Namespace, "cause", err)
	}
}

// use reads from answers from now on; nil: from nothing. It returns what was read before.
func (n *names) use(answers *redirect.Answers) (before *redirect.Answers) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before, n.answers = n.answers, answers
	return before
}

const (
	// readEvery is how often answers are read while no name is asked for. 80 pods at their
	// full rate, with the largest answers, take longer to fill the ring buffer.
	readEvery = 200 * time.Millisecond
	tidyEvery = 10 * time.Second
)

// readAnswers reads DNS answers until ctx is done. Only one agent of a node may do so.
func (a *components) readAnswers(ctx context.Context) error {
	select { // pods of an earlier agent may have got some
	case <-a.pods.Reconciled():
	case <-ctx.Done():
		return nil
	}
	// Without them the datapath has said so: there are names from answers over TCP only.
	if answers, err := a.datapath.Answers(); err == nil {
		defer answers.Close()
		a.names.use(answers)
		defer a.names.use(nil)
	}
	read, tidy := time.NewTicker(readEvery), time.NewTicker(tidyEvery)
	defer read.Stop()
	defer tidy.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-read.C:
			a.names.read()
		case now := <-tidy.C:
			a.names.cache.Tidy(now, func(uid string) bool { _, ok := a.store.View().WorkloadByUID(uid); return ok })
		}
	}
}

// dns returns what the status says of names from DNS; nil: none are asked for.
func (a *components) dns() *agentv1.DNS {
	if !a.config.DNSNames {
		return nil
	}
	d := &agentv1.DNS{Names: uint64(a.names.cache.Len())}
	if err := a.datapath.DNS(); err != nil {
		d.Error = err.Error()
	}
	return d
}
