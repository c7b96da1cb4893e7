package authz

// DecideConnection decides what can be decided before any request: Allow or Deny
// if every request on the connection has that verdict, otherwise NeedsRequest with
// the first rule that needs one. Decision.Audit names rules that need no request.
// It does not allocate.
func (s *Set) DecideConnection(c *Connection) Decision {
	if d, ok := s.early(c); ok {
		return d
	}
	f := facts{Connection: c, addr: address(c.Client)}
	d := Decision{Outcome: s.connection(&f)}
	if sure, _ := s.tables[ActionAudit].connection(&f); sure != nil {
		d.Audit = *sure.place
	}
	if s.rehearsal != nil {
		d.Rehearsed, d.Rehearsal = true, s.rehearsal.connection(&f)
	}
	return d
}

// DecideRequest decides a request. It returns Allow, Deny or Ask. It does not
// allocate, unless the path is not normalised.
func (s *Set) DecideRequest(c *Connection, r *Request) Decision {
	if r == nil {
		return s.DecideConnection(c).Opaque()
	}
	return s.decideRequest(c, r, r.Route)
}

// decideRequest decides a request that belongs to the route of this name.
func (s *Set) decideRequest(c *Connection, r *Request, route string) Decision {
	if d, ok := s.early(c); ok {
		return d
	}
	f := factsOf(c, r)
	f.route = route
	d := Decision{Outcome: s.request(&f)}
	d.Failed = f.failed
	if hit := s.tables[ActionAudit].request(&f, false); hit != nil {
		d.Audit = *hit.place
	}
	if s.rehearsal != nil {
		d.Rehearsed, d.Rehearsal = true, s.rehearsal.request(&f)
	}
	return d
}

// Audits yields every rule with ActionAudit that matches the request, in the order
// of the policies. Decision.Audit is the first of them.
func (s *Set) Audits(c *Connection, r *Request, yield func(Place) bool) {
	if _, ok := s.early(c); ok || r == nil {
		return
	}
	f := factsOf(c, r)
	s.tables[ActionAudit].all(&f, yield)
}

// early decides what no policy decides.
func (s *Set) early(c *Connection) (Decision, bool) {
	switch {
	case c != nil && c.Probe:
		return Decision{Outcome: Outcome{Verdict: Allow, Why: WhyProbe}}, true
	case s == nil || c == nil:
		return Decision{Outcome: Outcome{Verdict: Deny, Why: WhyNothing}}, true
	}
	return Decision{}, false
}

func byRule(v Verdict, e *entry) Outcome { return Outcome{Verdict: v, Why: WhyRule, Place: *e.place} }

func (s *Set) request(f *facts) Outcome {
	asks := s.tables[ActionExternal].request(f, true)
	answer := NotAsked
	if asks != nil && f.r.Provider == s.provider {
		answer = f.r.External
	}
	if answer == Refused {
		return Outcome{Verdict: Deny, Why: WhyExternal, Place: *asks.place}
	}
	var out Outcome
	if hit := s.tables[ActionDeny].request(f, true); hit != nil {
		return byRule(Deny, hit)
	} else if hit := s.tables[ActionAllow].request(f, false); hit != nil {
		out = byRule(Allow, hit)
	} else {
		out = s.fallback(f.Connection)
	}
	// An authorizer is not asked about what is denied anyway.
	if asks != nil && answer != Granted && out.Verdict == Allow {
		return byRule(Ask, asks)
	}
	return out
}

func (s *Set) connection(f *facts) Outcome {
	deny, mayDeny := s.tables[ActionDeny].connection(f)
	if deny != nil {
		return byRule(Deny, deny)
	}
	allow, mayAllow := s.tables[ActionAllow].connection(f)
	out := s.fallback(f.Connection)
	if allow != nil {
		out = byRule(Allow, allow)
	}
	asks, mayAsk := s.tables[ActionExternal].connection(f)
	if asks == nil {
		asks = mayAsk
	}
	switch {
	case out.Verdict == Deny && mayAllow == nil:
		return out
	case asks != nil:
		return byRule(NeedsRequest, asks)
	case mayDeny != nil:
		return byRule(NeedsRequest, mayDeny)
	case out.Verdict == Deny:
		return byRule(NeedsRequest, mayAllow)
	}
	return out
}

// fallback decides where no rule does.
func (s *Set) fallback(c *Connection) Outcome {
	out := Outcome{Why: WhyDefault}
	mode := s.options.Default
	if s.allows {
		out.Why, mode = WhyUnmatched, s.options.Unmatched
	}
	if mode == ModeAudit {
		out.Why = WhyAudit
	}
	if mode.admits(c, s.options.Cluster) {
		out.Verdict = Allow
	}
	return out
}
