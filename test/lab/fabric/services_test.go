package fabric

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	ap := netip.MustParseAddrPort
	rules := Rules([]VIP{
		{Addr: ap("10.78.0.1:80"), Protocol: "tcp", Endpoints: []netip.AddrPort{ap("10.77.1.2:8080"), ap("10.77.2.2:8080")}},
		{Addr: ap("10.78.0.2:80"), Protocol: "tcp"},
		{Addr: ap("[fd78::1]:53"), Protocol: "udp", Endpoints: []netip.AddrPort{ap("[fd77:1:1::2]:5353")}},
	})
	for _, want := range []string{
		"ip daddr 10.78.0.1 tcp dport 80 dnat ip to numgen random mod 2 map { 0 : 10.77.1.2 . 8080, 1 : 10.77.2.2 . 8080 }\n",
		"ip6 daddr fd78::1 udp dport 53 dnat ip6 to [fd77:1:1::2]:5353\n",
		"ip saddr 10.77.2.2 ip daddr 10.77.2.2 masquerade\n",
	} {
		if !strings.Contains(rules, want) {
			t.Errorf("got rules without %q, want it in:\n%s", want, rules)
		}
	}
	if strings.Contains(rules, "10.78.0.2") {
		t.Errorf("a service without endpoints is translated, want it refused:\n%s", rules)
	}
	if err := CheckTools(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{rules, Rules(nil)} {
		cmd := exec.Command("unshare", "-rn", "nft", "-c", "-f", "-")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("nft refused the rules, want them accepted: %v: %s\n%s", err, out, text)
		}
	}
}
