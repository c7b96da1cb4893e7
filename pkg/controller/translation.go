package controller

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/underlane/underlane/pkg/controller/istiopolicy"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/mesh"
)

// translation returns what the options say of the translation.
func (o *Options) translation() (c translate.Config, err error) {
	c = translate.Config{TrustDomain: o.TrustDomain, IstioRootNamespace: o.IstioRootNamespace}
	if c.Policy, err = translate.ParseDefaultPolicy(cmp.Or(o.DefaultPolicy, mesh.PolicyAllow.String())); err != nil {
		return c, err
	}
	if c.Providers, err = istiopolicy.ParseProviders(o.ExtensionProviders); err != nil {
		return c, err
	}
	for _, s := range o.ClusterNetworks {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, addrErr := netip.ParseAddr(s)
			if addrErr != nil || a.Zone() != "" {
				return c, fmt.Errorf("network of the cluster %q: want a CIDR or an address", s)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if p.Addr().Is4In6() {
			return c, fmt.Errorf("network of the cluster %q: an address of IPv4 in IPv6", s)
		}
		c.ClusterNetworks = append(c.ClusterNetworks, p.Masked())
	}
	return c, nil
}
