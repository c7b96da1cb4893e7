package l7proxy

import (
	"net/netip"
	"sync"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
)

// judgeAnew cuts connections that were admitted, and that the policies of their pod do not
// allow any more. Run calls it every second. It does nothing while no policies have changed.
//
// A connection of requests is judged by what is known of all of its requests. What is under
// way on it is judged after that, request by request.
func (p *Proxy) judgeAnew() {
	p.judgeEgress()
	changed, version := p.directory.ChangedPolicies()
	if changed == nil {
		p.judged.Store(version)
		return
	}
	revoke := func(s *request.Session, err error) {
		if err != nil {
			p.revoked.Add(1)
			p.Log.Debug("connection cut: the policy of the pod has changed", "client", s.Source.Addr, "destination", s.Original, "cause", err)
			s.Revoke(mesh.ReasonPolicyDenied)
		}
	}
	denied := denials{}
	requests := func(s *request.Session) {
		if s.Direction == mesh.Inbound {
			if err := changed.Inbound(s.Target, s.Source.Addr.Addr(), s.Source.Identity, true); err != nil {
				denied[s] = err
			}
		}
	}
	p.h1.Each(requests)
	p.h2.Each(requests)
	p.deny(denied)
	p.core.Opaque.Each(func(o *request.Opaque) {
		switch s, ep := o.Session, o.Endpoint; {
		case s.Direction == mesh.Inbound:
			revoke(s, changed.Inbound(s.Target, s.Source.Addr.Addr(), s.Source.Identity, false))
		case ep.Mode == upstream.SameNode:
			revoke(s, changed.SameNode(ep.Client, ep.Peer.Workload, ep.Peer.Addr, false))
		}
	})
	// A client of this node may have requests to several pods on one connection: those to the
	// pod fail, and the client's connection stays.
	p.revoked.Add(uint64(p.upstream.RevokeShortcuts(func(client, server *mesh.Workload, to netip.AddrPort) error {
		return changed.SameNode(client, server, to, true)
	})))
	p.judgeRequests(changed, version)
}

// judgeRequests judges the requests under way to the pods that have changed. It does not wait:
// the requests of each pod are judged by a goroutine that takes the time of that pod, so that
// many requests, and policies that cost much, are no burden to others. A pod whose requests
// are still being judged is judged again by the next call.
func (p *Proxy) judgeRequests(changed *destination.Changed, version uint64) {
	byPod := map[string][]request.Underway{}
	for uid := range changed.All() {
		if _, busy := p.judging.LoadOrStore(uid, struct{}{}); busy {
			changed.Again(uid)
			continue
		}
		of := func(s *request.Session) bool { return s.Direction == mesh.Inbound && s.Target.Local().UID == uid }
		byPod[uid] = append(p.h1.Underway(of), p.h2.Underway(of)...)
	}
	var all sync.WaitGroup
	for uid, sessions := range byPod {
		all.Go(func() {
			defer p.judging.Delete(uid)
			p.judgeUnderway(changed, uid, sessions)
		})
	}
	go func() {
		all.Wait()
		p.judged.Store(version)
	}()
}

// judgeUnderway judges the requests under way on the sessions of a pod.
func (p *Proxy) judgeUnderway(changed *destination.Changed, uid string, sessions []request.Underway) {
	judgeEach(p, quota.Key{UID: uid, Direction: mesh.Inbound}, sessions, func(s *request.Session, u destination.Underway) destination.Rejudged {
		return changed.Request(s.Target, &s.Source, u)
	})
}

// judgeEach judges the requests under way on sessions in the time of a pod.
func judgeEach(p *Proxy, pod quota.Key, sessions []request.Underway, judge request.Judge) {
	var task fairshare.Task
	task.Charge(p.pods.Account(pod))
	for _, one := range sessions {
		task.Resume()
		p.cut.Add(uint64(one.Rejudge(func(s *request.Session, u destination.Underway) destination.Rejudged {
			now := judge(s, u)
			if now.Err != nil {
				p.Log.Debug("request cut: it is not allowed any more", "client", s.Source.Addr, "destination", s.Original,
					"reason", upstream.ReasonOf(now.Err), "cause", now.Err)
			}
			return now
		})))
		task.Pause()
	}
}

// judgeEgress cuts what leaves the mesh and what EgressNetworks do not allow any more. It does
// nothing where there are none, and nothing to opaque connections while the state has not changed.
func (p *Proxy) judgeEgress() {
	v := p.State.View()
	if !v.HasEgress() {
		return
	}
	p.cut.Add(uint64(p.core.Mirrors.Rejudge()))
	judgeLeaving(p)
	if v.Version() != p.egressJudged {
		p.egressJudged, p.egressAgain = v.Version(), 3
	}
	if p.egressAgain == 0 {
		return
	}
	p.egressAgain--
	p.core.Opaque.Each(func(o *request.Opaque) {
		s := o.Session
		target, ok := s.Target.(*destination.Outbound)
		if !ok {
			return
		}
		if err := target.Judge(s.Said); err != nil {
			p.revoked.Add(1)
			p.Log.Debug("connection cut: an EgressNetwork does not allow it any more", "client", s.Source.Addr, "destination", s.Original, "cause", err)
			s.Revoke(upstream.ReasonOf(err))
		}
	})
}

// judgeLeaving judges the requests under way to destinations that EgressNetworks are about, as
// judgeRequests does. It is called whether something has changed or not: a request may have been
// waiting for something when it did.
func judgeLeaving(p *Proxy) {
	var pods []string // of each session
	of := func(s *request.Session) bool {
		target, ok := s.Target.(*destination.Outbound)
		if ok = ok && target.Leaves(); ok {
			pods = append(pods, target.Local().UID)
		}
		return ok
	}
	defer p.leftJudged.Add(1)
	sessions := append(p.h1.Underway(of), p.h2.Underway(of)...)
	byPod := map[string][]request.Underway{}
	for i, uid := range pods {
		byPod[uid] = append(byPod[uid], sessions[i])
	}
	for uid, sessions := range byPod {
		key := quota.Key{UID: uid, Direction: mesh.Outbound}
		if _, busy := p.judging.LoadOrStore(key, struct{}{}); busy {
			continue
		}
		go func() {
			defer p.judging.Delete(key)
			judgeEach(p, key, sessions, func(s *request.Session, u destination.Underway) (out destination.Rejudged) {
				out.Rules = u.Rules
				out.By, out.Err = s.Target.(*destination.Outbound).Leaving(u.Leaving)
				return out
			})
		}()
	}
}
