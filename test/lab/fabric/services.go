package fabric

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"github.com/underlane/underlane/test/lab/host"
	"github.com/underlane/underlane/test/lab/layout"
)

// VIP is a port of a ClusterIP with its endpoints, which are of the same address
// family.
type VIP struct {
	Addr      netip.AddrPort
	Protocol  string // "tcp" or "udp"
	Endpoints []netip.AddrPort
}

// CheckTools returns an error if the machine lacks a program that the lab needs.
func CheckTools() error {
	if _, err := exec.LookPath("nft"); err != nil {
		return fmt.Errorf("nft is not installed, and ClusterIPs need it: apt-get install nftables")
	}
	return nil
}

// Program replaces the rules for the ClusterIPs at a node, in one transaction.
// Established connections keep their endpoint.
func Program(l layout.Layout, node, rules string) error {
	return host.InNetns(l.Netns(node), func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("program the services of %s: nft: %w: %s", node, err, strings.TrimSpace(stderr.String()))
		}
		return nil
	})
}

// Rules returns the nftables program for vips, similar to kube-proxy's. Each
// connection, from a pod or from the node itself, goes to a random endpoint. A pod
// that reaches itself through a service sees the node as its client. A connection
// to a service without endpoints is refused at once.
func Rules(vips []VIP) string {
	var b strings.Builder
	b.WriteString("table inet underlane_lab\ndelete table inet underlane_lab\ntable inet underlane_lab {\n")
	b.WriteString("  chain services {\n")
	for _, v := range vips {
		writeVIP(&b, v)
	}
	b.WriteString(`  }
  chain prerouting { type nat hook prerouting priority -100; policy accept; jump services; }
  chain nat_output { type nat hook output priority -100; policy accept; jump services; }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
`)
	writeHairpin(&b, vips)
	b.WriteString("  }\n  chain refuse {\n")
	for _, p := range []netip.Prefix{layout.Services4, layout.Services6} {
		fmt.Fprintf(&b, "    %s daddr %s meta l4proto tcp reject with tcp reset\n", family(p.Addr()), p)
		fmt.Fprintf(&b, "    %s daddr %s reject\n", family(p.Addr()), p)
	}
	b.WriteString(`  }
  chain forward { type filter hook forward priority 0; policy accept; jump refuse; }
  chain output { type filter hook output priority 0; policy accept; jump refuse; }
}
`)
	return b.String()
}

func writeVIP(b *strings.Builder, v VIP) {
	if len(v.Endpoints) == 0 {
		return
	}
	ip := family(v.Addr.Addr())
	fmt.Fprintf(b, "    %s daddr %s %s dport %d dnat %s to ", ip, v.Addr.Addr(), v.Protocol, v.Addr.Port(), ip)
	if len(v.Endpoints) == 1 {
		fmt.Fprintf(b, "%s\n", v.Endpoints[0])
		return
	}
	fmt.Fprintf(b, "numgen random mod %d map {", len(v.Endpoints))
	for i, e := range v.Endpoints {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(b, " %d : %s . %d", i, e.Addr(), e.Port())
	}
	b.WriteString(" }\n")
}

func writeHairpin(b *strings.Builder, vips []VIP) {
	seen := map[netip.Addr]bool{}
	for _, v := range vips {
		for _, e := range v.Endpoints {
			if a := e.Addr(); !seen[a] {
				seen[a] = true
				fmt.Fprintf(b, "    %[1]s saddr %[2]s %[1]s daddr %[2]s masquerade\n", family(a), a)
			}
		}
	}
}

// family returns the nftables keyword for the address's family.
func family(a netip.Addr) string {
	if a.Is4() {
		return "ip"
	}
	return "ip6"
}
