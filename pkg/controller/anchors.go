package controller

import "net"

// anchors returns the trust bundle as DER.
func (c *Controller) anchors() [][]byte {
	var der [][]byte
	for _, cert := range c.authority.Anchors() {
		der = append(der, cert.Raw)
	}
	return der
}

// servingNames returns the names and addresses of the serving certificate in
// addition to control.ServerName: the host of the listen address, or all addresses
// of this host when the controller listens on all.
func servingNames(listen string) (names []string, ips []net.IP) {
	names = []string{"localhost"}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return names, nil // Listen reports what is wrong with the address
	}
	ip := net.ParseIP(host)
	switch {
	case host != "" && ip == nil:
		return append(names, host), nil
	case ip != nil && !ip.IsUnspecified():
		return names, []net.IP{ip}
	}
	addrs, _ := net.InterfaceAddrs() // best effort: agents check the name and need no address
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			ips = append(ips, n.IP)
		}
	}
	return names, ips
}
