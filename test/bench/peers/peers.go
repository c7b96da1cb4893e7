// Package peers starts the proxies that Underlane is compared with. Each is a
// process in the place of a node's agent. Addresses tell it what to forward.
package peers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/underlane/underlane/test/bench/pki"
	"github.com/underlane/underlane/test/bench/work"
)

// Hop is a task of a proxy: accept connections at Listen and forward their bytes or
// requests to Connect.
type Hop struct {
	Port            work.Port
	Listen, Connect netip.AddrPort
	TLSIn, TLSOut   bool // mutual TLS 1.3 on that side
}

// Setup has the settings of a peer's process.
type Setup struct {
	Dir  string // directory for its files, not shared
	Tool string // path of the program, from Find
	Hops []Hop
	PKI  pki.Files
	CPUs int // threads, or worker processes
}

// Peer is a kind of proxy.
type Peer struct {
	Name string
	// Find returns the path of the program. It may download or build it in dir. Its
	// error says why the peer is left out.
	Find func(ctx context.Context, dir string) (string, error)
	// Config returns the files to write into Setup.Dir, by name, and the arguments.
	Config func(s Setup) (files map[string]string, args []string)
	// Carries has the protocols that it can forward.
	Carries []work.Proto
	// Plain: no TLS between the two hops.
	Plain bool
	// CrossOnly: it is not measured with a single hop.
	CrossOnly bool
	// InPods: its processes run in the network namespaces of the client's and the
	// server's pod, where Underlane has its sockets, not in those of the nodes.
	InPods bool
}

// All has the peers, in the order of the tables.
var All = []Peer{
	{Name: "floor", Find: findFloor, Config: floorConfig, Carries: everything, Plain: true},
	{Name: "floor-tls", Find: findFloor, Config: floorConfig, Carries: everything, CrossOnly: true},
	{Name: "floor-pods", Find: findFloor, Config: floorConfig, Carries: everything, CrossOnly: true, InPods: true},
	{Name: "nginx", Find: findNginx, Config: nginxConfig, Carries: everything},
	{Name: "haproxy", Find: installed("haproxy"), Config: haproxyConfig, Carries: everything},
	{Name: "envoy", Find: findEnvoy, Config: envoyConfig, Carries: everything},
	{Name: "go", Find: findSelf, Config: goConfig, Carries: []work.Proto{work.ProtoHTTP1, work.ProtoHTTP2}},
}

var everything = []work.Proto{work.ProtoHTTP1, work.ProtoHTTP2, work.ProtoTCP}

// Command writes a peer's files and returns its command, not started.
func (p *Peer) Command(s Setup) (*exec.Cmd, error) {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("set %s up: %w", p.Name, err)
	}
	files, args := p.Config(s)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("set %s up: %w", p.Name, err)
		}
	}
	cmd := exec.Command(s.Tool, args...)
	cmd.Dir = s.Dir
	cmd.Env = os.Environ()
	return cmd, nil
}

// installed returns a Find for a program that Debian installs.
func installed(name string) func(context.Context, string) (string, error) {
	return func(context.Context, string) (string, error) {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
		path := "/usr/sbin/" + name
		if _, err := os.Stat(path); err != nil {
			return "", errors.New("it is not installed: scripts/deps.sh bench")
		}
		return path, nil
	}
}

func findSelf(context.Context, string) (string, error) { return os.Executable() }
