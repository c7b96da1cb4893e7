package destination

import (
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/policy/jwt"
	"github.com/underlane/underlane/pkg/tap"
)

// Bounds of the verdicts on tokens that a node remembers.
const (
	rememberedTokens     = 4096
	rememberedTokenBytes = 8 << 20 // about
)

// Tokens judges the tokens of requests to a pod of this node.
type Tokens struct {
	directory *Directory
	verifier  *jwt.Verifier
	fromNode  bool
}

// Judge judges the tokens of a request. client is what the request's client is counted as.
// If the client is the node itself, a token that is not good counts as none: probes are let
// in always.
func (t *Tokens) Judge(h jwt.Head, client quota.Source) jwt.Judgement {
	d := t.directory
	out := jwt.Judge(t.verifier, h, d.tokens.cache, client, time.Now(), t.fromNode)
	if d.StaleKeys != nil {
		for _, source := range out.Missing {
			d.StaleKeys(source)
		}
	}
	return out
}

// Tokens implements Target. A client that may not connect, whatever its requests are, is
// refused here: it costs no signature. The entry is that of the refusal.
func (t *Inbound) Tokens(client *tap.Peer, asked Asker) (*Tokens, *calls.Entry, error) {
	local := t.refresh()
	if !local.Authorized {
		return nil, nil, nil
	}
	d := t.directory
	rules := d.State.View().Authz(local.UID)
	if rules != nil && len(rules.Tokens()) == 0 {
		return nil, nil, nil
	}
	if !t.fromNode {
		if verdict := policy.Decide(t.input(local, client)); !verdict.Allowed {
			return nil, nil, mesh.Fail(verdict.Reason, nil)
		}
		decision := rules.DecideConnection(&authz.Connection{Peer: d.peers.of(client.Identity), Client: client.Addr.Addr(), Port: t.addr.Port()})
		if decision.Verdict == authz.Deny {
			entry := d.remember(local, t.addr.Port(), client, asked, &decision)
			return nil, entry, mesh.Fail(mesh.ReasonPolicyDenied, denial(&decision))
		}
	}
	if rules == nil { // a probe
		return nil, nil, nil
	}
	return &Tokens{d, d.tokens.verifier(local.UID, rules), t.fromNode}, nil, nil
}

// Tokens implements Target. Tokens are judged at the server's node only.
func (t *Outbound) Tokens(*tap.Peer, Asker) (*Tokens, *calls.Entry, error) { return nil, nil, nil }

// tokens has what is compiled, and what is remembered, for tokens.
type tokens struct {
	cache *jwt.Cache[quota.Source]

	mu    sync.RWMutex
	byPod map[string]podTokens // by UID
}

// podTokens is replaced when the pod's policies change.
type podTokens struct {
	rules    *authz.Workload
	verifier *jwt.Verifier
}

func (t *tokens) verifier(uid string, rules *authz.Workload) *jwt.Verifier {
	t.mu.RLock()
	p := t.byPod[uid]
	t.mu.RUnlock()
	if p.rules == rules {
		return p.verifier
	}
	v, _ := jwt.Compile(rules.Tokens()) // the controller has reported the problems
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byPod == nil {
		t.byPod = make(map[string]podTokens)
	}
	t.byPod[uid] = podTokens{rules, v}
	return v
}

// forget drops those of pods that are gone.
func (t *tokens) forget(known func(uid string) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for uid := range t.byPod {
		if !known(uid) {
			delete(t.byPod, uid)
		}
	}
}
