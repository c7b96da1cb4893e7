package redirect

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"golang.org/x/sys/unix"
)

// udp makes a UDP socket in ns, bound to addr.
func udp(t *testing.T, ns *netns.NS, addr netip.AddrPort) int {
	t.Helper()
	var fd int
	err := ns.Do(func() (err error) {
		family := unix.AF_INET
		if addr.Addr().Is6() {
			family = unix.AF_INET6
		}
		if fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, sockaddr(addr))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}); err != nil {
		t.Fatal(err)
	}
	return fd
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func local(t *testing.T, fd int) netip.AddrPort {
	t.Helper()
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	t.Fatalf("%T", sa)
	return netip.AddrPort{}
}

// answerOf is a message with an answer's head that ends with text, size bytes long.
func answerOf(text string, size int) []byte {
	m := append([]byte{0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0}, make([]byte, max(0, size-12-len(text)))...)
	return append(m, text...)
}

// exchange sends a datagram from one socket to another, and waits until it has come.
func exchange(t *testing.T, from, to int, m []byte) {
	t.Helper()
	dst := local(t, to)
	if err := unix.Sendto(from, m, 0, sockaddr(dst)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		n, _, err := unix.Recvfrom(to, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || !slices.Equal(buf[:n], m) {
			t.Fatalf("received %q, %v; want %q", buf[:n], err, m)
		}
		return
	}
}

func ask(t *testing.T, from int, server netip.AddrPort) {
	t.Helper()
	if err := unix.Sendto(from, []byte("?"), 0, sockaddr(server)); err != nil {
		t.Fatal(err)
	}
}

// answers reads what the kernel has reported.
func answers(t *testing.T, a *Answers, cookie uint64) (list []string) {
	t.Helper()
	err := a.Read(func(c uint64, m []byte) {
		if c != cookie {
			t.Errorf("an answer of pod %d, want %d", c, cookie)
		}
		list = append(list, string(m))
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func dnsRig(t *testing.T) (*rig, *Answers) {
	r := newRig(t, mesh.Settings{})
	if _, err := r.d.Answers(); !errors.Is(err, errDNSOff) {
		t.Fatalf("without Options.DNS: %v, want %v", err, errDNSOff)
	}
	if err := r.d.Close(); err != nil {
		t.Fatal(err)
	}
	r.options.DNS = true
	r.load(t)
	r.enroll(t)
	a, err := r.d.Answers()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return r, a
}

// TestAnswers: what a socket of a pod receives from a server that it has asked is reported,
// by connected sockets and by others, of both families and over loopback; and nothing else.
func TestAnswers(t *testing.T) {
	r, seen := dnsRig(t)
	cookie := r.enrolled.Cookie()
	for name, server := range map[string]struct {
		ns   *netns.NS
		addr netip.Addr
		own  netip.Addr
	}{
		"IPv4":          {r.peer, peer4, pod4},
		"IPv6":          {r.peer, peer6, pod6},
		"IPv4 loopback": {r.pod, v4Loopback, v4Loopback},
		"IPv6 loopback": {r.pod, v6Loopback, v6Loopback},
	} {
		t.Run(name, func(t *testing.T) {
			at := netip.AddrPortFrom(server.addr, 53)
			resolver, other := udp(t, server.ns, at), udp(t, server.ns, netip.AddrPortFrom(server.addr, 5300))
			client := udp(t, r.pod, netip.AddrPortFrom(server.own, 0))

			exchange(t, resolver, client, answerOf("not asked", 100))
			ask(t, client, netip.AddrPortFrom(server.addr, 5353))
			exchange(t, resolver, client, answerOf("asked at another port", 100))
			if got := answers(t, seen, cookie); got != nil {
				t.Fatalf("before it asks: %q", got)
			}
			ask(t, client, at)
			small, large, cut := answerOf("small", 100), answerOf("large", 1000), answerOf("too large", 1400)
			exchange(t, other, client, answerOf("another port", 100))
			for _, m := range [][]byte{small, large, cut, answerOf("", 12), []byte("short")} {
				exchange(t, resolver, client, m)
			}
			question, failed, empty := answerOf("question", 60), answerOf("NXDOMAIN", 60), answerOf("no answers", 60)
			question[2], failed[3], empty[7] = 0x01, 0x83, 0
			for _, m := range [][]byte{question, failed, empty} {
				exchange(t, resolver, client, m)
			}
			want := []string{string(small), string(large), string(cut[:1232]), string(answerOf("", 12))}
			if got := answers(t, seen, cookie); !slices.Equal(got, want) {
				t.Errorf("not connected: got %q, want %q", got, want)
			}

			connected := udp(t, r.pod, netip.AddrPortFrom(server.own, 0))
			if err := unix.Connect(connected, sockaddr(at)); err != nil {
				t.Fatal(err)
			}
			exchange(t, resolver, connected, small)
			if got := answers(t, seen, cookie); !slices.Equal(got, want[:1]) {
				t.Errorf("connected: got %q, want %q", got, want[:1])
			}
		})
	}
}

// TestAnswersUnasked: who is not the server that was asked says nothing, and neither does
// one that answers a socket outside the mesh.
func TestAnswersUnasked(t *testing.T) {
	r, seen := dnsRig(t)
	server, client := netip.MustParseAddrPort("10.99.0.3:53"), udp(t, r.pod, netip.AddrPortFrom(pod4, 0))
	ask(t, client, netip.MustParseAddrPort("10.99.0.99:53"))
	forger := udp(t, r.peer, server)
	exchange(t, forger, client, answerOf("forged", 100))
	outside := udp(t, r.peer, netip.AddrPortFrom(peer4, 0))
	ask(t, outside, server)
	exchange(t, forger, outside, answerOf("outside", 100))
	if got := answers(t, seen, 0); got != nil {
		t.Errorf("got %q", got)
	}
	if n := counters(t, r)["dns-unasked"]; n != 1 {
		t.Errorf("dns-unasked is %d, want 1", n)
	}
}

func counters(t *testing.T, r *rig) map[string]uint64 {
	t.Helper()
	all, err := r.d.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestAnswersFlood: a pod that gets many answers loses the rest of its own, which is
// counted, and its next ones come at the rate.
func TestAnswersFlood(t *testing.T) {
	r, seen := dnsRig(t)
	server := netip.AddrPortFrom(peer4, 53)
	resolver, client := udp(t, r.peer, server), udp(t, r.pod, netip.AddrPortFrom(pod4, 0))
	ask(t, client, server)
	began := time.Now()
	const sent = 3000
	for range sent {
		exchange(t, resolver, client, answerOf("flood", 600))
	}
	most := 64 + int(time.Since(began)/(20*time.Millisecond)) + 1
	got := len(answers(t, seen, r.enrolled.Cookie()))
	if got < 64 || got > most {
		t.Errorf("%d of %d answers were reported, want 64 to %d", got, sent, most)
	}
	c := counters(t, r)
	if c["dns-answer"] != uint64(got) || c["dns-limited"] != uint64(sent-got) || c["dns-lost"] != 0 {
		t.Errorf("counted %v, want %d answers, and %d over the limit", c, got, sent-got)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		exchange(t, resolver, client, answerOf("after", 100))
		if list := answers(t, seen, r.enrolled.Cookie()); list != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nothing is reported after a flood")
		}
	}
	r.d.Withdraw(r.workload.UID)
	var rate bpf.UnderlaneDnsRate
	if err := r.d.objs.DnsRates.Lookup(r.enrolled.Cookie(), &rate); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Errorf("the rate of a withdrawn pod: %v", err)
	}
}

// TestAnswersRepaired: a hook that somebody detaches comes back, and without Options.DNS
// the hooks of an earlier agent go away.
func TestAnswersRepaired(t *testing.T) {
	r, _ := dnsRig(t)
	if err := os.Remove(r.d.linkPin("dns_received")); err != nil {
		t.Fatal(err)
	}
	repaired, err := r.d.Repair()
	if err != nil || len(repaired) != 1 {
		t.Errorf("repaired %q, %v; want dns_received", repaired, err)
	}
	if err := r.d.Close(); err != nil {
		t.Fatal(err)
	}
	r.options.DNS = false
	r.load(t)
	for _, name := range dnsLinks {
		if _, err := os.Stat(r.d.linkPin(name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still pinned: %v", name, err)
		}
	}
}

// TestOtherPacketsPass runs the program on packets that it has to let pass without a
// look at their content, and says what that costs.
func TestOtherPacketsPass(t *testing.T) {
	r, seen := dnsRig(t)
	ip4 := func(protocol byte, port byte) []byte {
		p := make([]byte, 14+20+8+100)
		p[12], p[13] = 0x08, 0x00 // EtherType
		p[14], p[14+9], p[14+20+1] = 0x45, protocol, port
		return p
	}
	ip6 := func(protocol byte, port byte) []byte {
		p := make([]byte, 14+40+8+100)
		p[12], p[13] = 0x86, 0xdd
		p[14], p[14+6], p[14+40+1] = 0x60, protocol, port
		return p
	}
	options := ip4(17, 0)
	options[14], options[14+60] = 0x4f, 1 // its UDP header begins beyond the fixed one
	for name, p := range map[string][]byte{
		"TCP of port 53, IPv4": ip4(6, 53), "TCP of port 53, IPv6": ip6(6, 53), "ICMP": ip4(1, 0),
		"UDP of another port, IPv4": ip4(17, 80), "UDP of another port, IPv6": ip6(17, 80),
		"UDP of port 53 to a socket that has asked nobody": ip4(17, 53), "IPv4 options": options,
		"no UDP header": ip4(17, 53)[:14+20+4], "ARP": append(make([]byte, 12), append([]byte{8, 6}, make([]byte, 60)...)...),
	} {
		const repeat = 100_000
		verdict, cost, err := r.d.objs.DnsReceived.Benchmark(p, repeat, nil)
		if err != nil || verdict != 1 {
			t.Errorf("%s: %d, %v; want 1", name, verdict, err)
		}
		t.Logf("%s: %v", name, cost)
	}
	if got := answers(t, seen, 0); got != nil {
		t.Errorf("reported %q", got)
	}
}
