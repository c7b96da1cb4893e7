package upstream

import (
	"cmp"
	"net/netip"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/mtls"
)

// An endpoint whose agent did not answer is remembered for a limited time, so that further
// connections do not wait for that agent again. Where they have no other way, they fail
// meanwhile, and the pool asks for the agent in the background, so that they go on as soon
// as it is back.

const (
	// askDownEvery is the time between two probes of an agent that is away. Only one probe
	// of a pod is under way at a time, whatever ports of it clients try: that of an agent
	// which keeps silent is answered when the agent goes on.
	askDownEvery = 250 * time.Millisecond
	// downMost bounds the endpoints that are remembered. Connections to another one find
	// out for themselves.
	downMost = 4096
)

// downPeer is an endpoint whose agent did not answer.
type downPeer struct {
	uid    string // of the endpoint's pod
	key    string // of the pod, in downPeers.asked
	node   string
	silent bool // the agent, or what is in its place, accepted the connection and kept silent
	until  time.Time
	memory time.Duration // until is so long after the last use, if the pod's agent is probed
}

// downPeers are the endpoints whose agents did not answer.
type downPeers struct {
	mu    sync.Mutex
	peers map[netip.AddrPort]*downPeer
	asked map[string]*downPeer // by pod: the endpoint at which its agent is probed
}

// remember notes that the agent of an endpoint did not answer. silent: the connection was
// accepted.
func (p *transport) remember(ep *Endpoint, silent bool) {
	memory := p.Limits.AgentDownTTL
	if !ep.Fallback && !silent {
		memory /= 10 // trying again costs little, and there is no other way to connect
	}
	if one := p.down.put(ep, silent, memory); one != nil {
		asked := *ep
		asked.Usage = nil      // a probe is the agent's own
		asked.HasOthers = true // a probe is given less time
		p.start(func() { p.askDown(&asked, one) })
	}
}

// askDown probes the agent of an endpoint until it answers, or until no connection has
// asked for the endpoint for some time.
func (p *transport) askDown(ep *Endpoint, one *downPeer) {
	tick := time.NewTicker(askDownEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.Lifetime.Ended.Done():
			return
		case <-tick.C:
		}
		if !p.down.goesOn(ep.Peer.Addr, one) {
			return
		}
		// With HTTP/1 the agent waits for a request: it does not connect to the application.
		c, _, err := p.handshake(p.Lifetime.Ended, ep, mtls.ALPNHTTP1)
		switch {
		case err == nil: // handshake has called back
			c.Close()
		case mtls.Busy(err): // it is the agent that says so
			p.down.back(ep)
		case !agentAway(err) && !refusedForAgent(err): // connections find out what is wrong now
			p.down.drop(ep.Peer.Addr, one)
		}
	}
}

// is reports whether the agent of the endpoint counts as away. What was found of another
// pod that had the address does not count.
func (d *downPeers) is(ep *Endpoint) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	one, now := d.peers[ep.Peer.Addr], time.Now()
	if one == nil || now.After(one.until) {
		return false
	}
	if uid, _ := podOf(ep); uid != one.uid {
		return false
	}
	if asked := d.asked[one.key]; asked != nil {
		one.until, asked.until = now.Add(one.memory), now.Add(asked.memory)
	}
	return true
}

// put adds an endpoint. It returns the endpoint if the caller has to probe its agent in the
// background, else nil. A connection that may be made in plaintext needs no probe: the next one
// after the memory asks for the agent.
func (d *downPeers) put(ep *Endpoint, silent bool, memory time.Duration) (ask *downPeer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	uid, node := podOf(ep)
	one := d.peers[ep.Peer.Addr]
	if one == nil || one.uid != uid {
		if one == nil && len(d.peers) >= downMost {
			return nil
		}
		one = &downPeer{uid: uid, key: cmp.Or(uid, ep.Peer.Addr.String()), node: node}
		d.peers[ep.Peer.Addr] = one
	}
	one.silent, one.memory, one.until = silent, memory, time.Now().Add(memory)
	if ep.Fallback || d.asked[one.key] != nil {
		return nil
	}
	d.asked[one.key] = one
	return one
}

// remove forgets an endpoint. The caller holds mu.
func (d *downPeers) remove(addr netip.AddrPort, one *downPeer) {
	delete(d.peers, addr)
	d.stopped(one)
}

// stopped notes that an endpoint's agent is not probed, or not any more. The caller holds mu.
func (d *downPeers) stopped(one *downPeer) {
	if d.asked[one.key] == one {
		delete(d.asked, one.key)
	}
}

// goesOn reports whether the endpoint's agent still counts as away. If not, it forgets the
// endpoint, and the caller stops to probe it.
func (d *downPeers) goesOn(addr netip.AddrPort, one *downPeer) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.peers[addr] != one { // its agent was back meanwhile, or another pod has the address
		d.stopped(one)
		return false
	}
	if time.Now().After(one.until) {
		d.remove(addr, one)
		return false
	}
	return true
}

// drop forgets an endpoint.
func (d *downPeers) drop(addr netip.AddrPort, one *downPeer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.peers[addr] == one {
		d.remove(addr, one)
	}
}

// back notes that the agent of ep has answered. It carries all addresses and ports of its
// pod, and an agent that answers for one pod is not silent for another one of its node.
func (d *downPeers) back(ep *Endpoint) {
	uid, node := podOf(ep)
	d.mu.Lock()
	defer d.mu.Unlock()
	for addr, one := range d.peers {
		if addr == ep.Peer.Addr || uid != "" && one.uid == uid || node != "" && one.silent && one.node == node {
			d.remove(addr, one)
		}
	}
}

// forget drops the endpoints whose time is over and that are not probed.
func (d *downPeers) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for addr, one := range d.peers {
		if d.asked[one.key] != one && now.After(one.until) {
			delete(d.peers, addr)
		}
	}
}

func podOf(ep *Endpoint) (uid, node string) {
	if w := ep.Peer.Workload; w != nil {
		return w.UID, w.Node
	}
	return "", ""
}
