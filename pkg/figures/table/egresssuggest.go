package table

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// egressNeeds is what the workloads of one namespace need.
type egressNeeds struct {
	http, tls map[string]bool // names
	// addrs are destinations without a name, with the kinds of routes that are about them.
	addrs map[netip.AddrPort]map[routeKind]bool
	names map[netip.AddrPort]string // of addrs, that DNS has given
}

// SuggestEgress writes the EgressNetworks and routes that allow what rows have sent, and
// nothing else, for each namespace. denied: what was refused is allowed as well.
func SuggestEgress(out io.Writer, rows []EgressRow, denied bool) error {
	by := map[string]*egressNeeds{}
	var notes []string
	for i := range rows {
		r := &rows[i]
		switch {
		case r.Folded:
			notes = append(notes, fmt.Sprintf("%s in %s has more destinations than are counted by name: the list is not complete", r.Client, r.Namespace))
			continue
		case r.Service:
			notes = append(notes, fmt.Sprintf("%s in %s uses %s, whose endpoints are outside: their addresses count", r.Client, r.Namespace, r.Destination))
			continue
		case isHTTP(r.Protocol) && r.Requests == 0:
			continue // connections have an address; their requests have names, in other rows
		case !denied && !r.Passed():
			continue
		}
		w := by[r.Namespace]
		if w == nil {
			w = &egressNeeds{map[string]bool{}, map[string]bool{}, map[netip.AddrPort]map[routeKind]bool{}, map[netip.AddrPort]string{}}
			by[r.Namespace] = w
		}
		w.add(r)
	}
	var b strings.Builder
	slices.Sort(notes)
	for _, n := range slices.Compact(notes) {
		fmt.Fprintf(&b, "# %s\n", n)
	}
	for _, namespace := range slices.Sorted(maps.Keys(by)) {
		by[namespace].write(&b, namespace)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (w *egressNeeds) add(r *EgressRow) {
	if len(r.Addresses) > 0 {
		for _, text := range r.Addresses {
			if addr, err := netip.ParseAddrPort(text); err == nil {
				w.at(addr, r.Protocol)
				w.names[addr] = r.Destination
			}
		}
		return
	}
	addr, err := netip.ParseAddrPort(r.Destination)
	switch {
	case err == nil:
		w.at(addr, r.Protocol)
	case isHTTP(r.Protocol):
		w.http[r.Destination] = true
	case r.Destination != "": // an SNI. What was refused before it was carried counts as tcp
		w.tls[r.Destination] = true
	}
}

// at notes a destination without a name.
func (w *egressNeeds) at(addr netip.AddrPort, protocol string) {
	if w.addrs[addr] == nil {
		w.addrs[addr] = map[routeKind]bool{}
	}
	kind := tcpRoute
	switch {
	case isHTTP(protocol):
		kind = httpRoute
	case protocol == "tls":
		kind = tlsRoute // those of the names are about the port, too, and TCPRoutes are then not asked
	}
	w.addrs[addr][kind] = true
}

func (w *egressNeeds) write(b *strings.Builder, namespace string) {
	w.writeNetwork(b, namespace, "outside", "")
	made := map[netip.Addr]bool{}
	for _, at := range slices.SortedFunc(maps.Keys(w.addrs), netip.AddrPort.Compare) {
		name := "outside-" + strings.NewReplacer(".", "-", ":", "-").Replace(strings.Trim(at.Addr().String(), ":"))
		if !made[at.Addr()] {
			made[at.Addr()] = true
			w.writeNetwork(b, namespace, name, netip.PrefixFrom(at.Addr(), at.Addr().BitLen()).String())
		}
		if known := w.names[at]; known != "" {
			fmt.Fprintf(b, "# %s was an address of %q when it was called\n", at, known)
		}
		for _, kind := range slices.Sorted(maps.Keys(w.addrs[at])) {
			writeRoute(b, kind, namespace, fmt.Sprintf("%s-%d", name, at.Port()), name, at.Port(), nil)
		}
	}
}

// writeNetwork writes a network, all of what is outside without a CIDR, and the routes for the
// names. Each network has them: that of an address is more specific than the one of all, and
// names may lead to its address.
func (w *egressNeeds) writeNetwork(b *strings.Builder, namespace, name, cidr string) {
	fmt.Fprintf(b, "---\napiVersion: policy.linkerd.io/v1alpha1\nkind: EgressNetwork\nmetadata: {name: %s, namespace: %s}\nspec:\n", name, namespace)
	if cidr != "" {
		fmt.Fprintf(b, "  networks: [{cidr: %q}]\n", cidr)
	}
	b.WriteString("  trafficPolicy: Deny\n")
	if len(w.http) > 0 {
		writeRoute(b, httpRoute, namespace, name, name, 0, w.http)
	}
	if len(w.tls) > 0 {
		writeRoute(b, tlsRoute, namespace, name, name, 0, w.tls)
	}
}

// routeKind is a kind of the Gateway API.
type routeKind string

const (
	httpRoute routeKind = "HTTPRoute"
	tlsRoute  routeKind = "TLSRoute"
	tcpRoute  routeKind = "TCPRoute"
)

// writeRoute writes a route for a port, 0 for all, and hosts, nil for all.
func writeRoute(b *strings.Builder, kind routeKind, namespace, name, parent string, port uint16, hosts map[string]bool) {
	version := "v1"
	if kind == tcpRoute {
		version = "v1alpha2"
	}
	fmt.Fprintf(b, "---\napiVersion: gateway.networking.k8s.io/%s\nkind: %s\nmetadata: {name: %s, namespace: %s}\nspec:\n", version, kind, name, namespace)
	if len(hosts) > 0 {
		b.WriteString("  hostnames:\n")
		for _, h := range slices.Sorted(maps.Keys(hosts)) {
			fmt.Fprintf(b, "    - %q\n", h)
		}
	}
	at := ""
	if port != 0 {
		at = fmt.Sprintf(", port: %d", port)
	}
	ref := fmt.Sprintf("{group: policy.linkerd.io, kind: EgressNetwork, name: %s%s}", parent, at)
	rules := "[{matches: [{path: {type: PathPrefix, value: /}}]}]"
	if kind != httpRoute {
		rules = fmt.Sprintf("[{backendRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: %s}]}]", parent)
	}
	fmt.Fprintf(b, "  parentRefs: [%s]\n  rules: %s\n", ref, rules)
}
