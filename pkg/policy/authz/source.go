package authz

import "net/netip"

// source is a compiled Source.
type source struct {
	principals, notPrincipals *values
	accounts, notAccounts     *accounts
	namespaces, notNamespaces *values
	domains, notDomains       *values
	networks, notNetworks     []Network
	tokens, notTokens         *values
	authentication            Authentication
	key                       string // the same for sources that are the same to a connection
}

// accounts is a compiled list of ServiceAccount.
type accounts struct {
	domain string
	named  map[ServiceAccount]struct{}
	all    map[string]struct{} // namespaces of which all are meant
}

func (a *accounts) has(p *Peer) bool {
	if p.id.TrustDomain != a.domain || p.id.IsZero() {
		return false
	}
	if _, ok := a.named[ServiceAccount{p.id.Namespace, p.id.ServiceAccount}]; ok {
		return true
	}
	_, ok := a.all[p.id.Namespace]
	return ok
}

// needsRequest reports whether the source looks at more than the connection.
func (s *source) needsRequest() bool { return s.tokens != nil || s.notTokens != nil }

// fitsConnection judges what the source says of the connection.
func (s *source) fitsConnection(f *facts) bool {
	p := &f.Peer
	switch {
	case s.authentication == Authenticated && p.IsZero(), s.authentication == Unauthenticated && !p.IsZero():
		return false
	case s.principals != nil && (p.uri == "" || !s.principals.has(p.uri)):
		return false
	case s.notPrincipals != nil && p.uri != "" && s.notPrincipals.has(p.uri):
		return false
	case s.accounts != nil && !s.accounts.has(p):
		return false
	case s.notAccounts != nil && s.notAccounts.has(p):
		return false
	case s.namespaces != nil && (p.id.IsZero() || !s.namespaces.has(p.id.Namespace)):
		return false
	case s.notNamespaces != nil && !p.id.IsZero() && s.notNamespaces.has(p.id.Namespace):
		return false
	case s.domains != nil && (p.domain == "" || !s.domains.has(p.domain)):
		return false
	case s.notDomains != nil && p.domain != "" && s.notDomains.has(p.domain):
		return false
	case s.networks != nil && !inNetworks(s.networks, f.addr):
		return false
	case s.notNetworks != nil && inNetworks(s.notNetworks, f.addr):
		return false
	}
	return true
}

// fitsRequest judges the rest.
func (s *source) fitsRequest(f *facts) bool {
	token := f.r.Principal
	return (s.tokens == nil || token != "" && s.tokens.has(token)) &&
		(s.notTokens == nil || token == "" || !s.notTokens.has(token))
}

func inNetworks(networks []Network, a netip.Addr) bool {
	for i := range networks {
		if networks[i].CIDR.Contains(a) && !inAny(networks[i].Except, a) {
			return true
		}
	}
	return false
}
