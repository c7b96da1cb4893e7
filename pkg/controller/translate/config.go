package translate

import (
	"fmt"
	"net/netip"

	"github.com/underlane/underlane/pkg/controller/istiopolicy"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Config is what a translation depends on beside the objects.
type Config struct {
	TrustDomain string // of all identities
	// Policy is that of pods for which no annotation says one. The zero Policy admits
	// everybody.
	Policy DefaultPolicy
	// ClusterNetworks are those of the modes cluster-authenticated and
	// cluster-unauthenticated, and not in an EgressNetwork without networks. nil:
	// DefaultClusterNetworks.
	ClusterNetworks []netip.Prefix
	// IstioRootNamespace has the policies of Istio for all namespaces. "":
	// istiopolicy.DefaultRootNamespace.
	IstioRootNamespace string
	// Providers are the external authorizers that Istio's policies may name.
	Providers []istiopolicy.Provider
}

// DefaultClusterNetworks are the private address ranges, as in Linkerd's value
// clusterNetworks.
var DefaultClusterNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("fd00::/8"),
}

// DefaultPolicy says who may connect to ports about which no policy decides.
type DefaultPolicy struct {
	strict bool
	mode   defaultMode
}

// ParseDefaultPolicy reads what the annotation underlane.io/policy can have: allow, strict,
// or the name of a mode.
func ParseDefaultPolicy(s string) (DefaultPolicy, error) {
	switch s {
	case mesh.PolicyAllow.String():
		return DefaultPolicy{}, nil
	case mesh.PolicyStrict.String():
		return DefaultPolicy{strict: true}, nil
	}
	mode, err := authz.ParseMode(s)
	if err != nil {
		return DefaultPolicy{}, fmt.Errorf("default policy %q is neither %s nor %s, nor the name of a mode: %w", s, mesh.PolicyAllow, mesh.PolicyStrict, err)
	}
	return DefaultPolicy{mode: &mode}, nil
}

// settings are those that namespaces inherit.
func (p DefaultPolicy) settings() (s mesh.Settings) {
	if p.strict {
		s.Policy = mesh.PolicyStrict
	}
	return s
}

// Translate translates o with c.
func (c Config) Translate(o *Objects) Result {
	t := New(c)
	t.Apply(Diff(nil, o))
	return *t.Result()
}

// Translate translates o. Identities belong to trustDomain.
func Translate(o *Objects, trustDomain string) Result {
	return Config{TrustDomain: trustDomain}.Translate(o)
}
