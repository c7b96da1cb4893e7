package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/underlane/underlane/test/bench/peers"
	"github.com/underlane/underlane/test/bench/pki"
	"github.com/underlane/underlane/test/bench/work"
	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/lab/host"
)

// The subjects without a proxy: without the mesh, and with pods that agents watch (the label
// underlane.io/mesh: observe).
const (
	Direct   = "direct"
	Observed = "observed"
)

// Build is an agent and a controller to measure.
type Build struct {
	Name string   // of the subject
	Bin  string   // directory of the programs
	Args []string // more arguments of the agents
	// Policies is how many authorization policies each server has that look at requests.
	Policies int
}

// Options say what to bring up.
type Options struct {
	Tools  string // directory of the lab's command
	Dir    string // for files, empty
	Builds []Build
	Peers  []string // names of peers.All, Direct or Observed
	CPUs   int      // threads of each peer
	Log    func(format string, args ...any)
}

// Subject is something that is measured.
type Subject struct {
	Name   string
	lab    *lab
	client api.Pod
	target func(Topology, work.Port) netip.AddrPort // invalid: not possible
	pids   func() []int
	nodes  []string // nodes whose agents have metrics
	seen   bool     // the agents observe its pods
}

// Can reports whether the subject can do a work.
func (s *Subject) Can(t Topology, w work.Work) bool { return s.target(t, w.Port()).IsValid() }

// Proxied reports whether the subject is a proxy or the mesh.
func (s *Subject) Proxied() bool { return s.Name != Direct && s.Name != Observed }

// Rig is a running set of subjects.
type Rig struct {
	Subjects []*Subject
	LeftOut  map[string]string // peers that are left out, and why
	labs     []*lab
}

// Up brings up a rig. The caller must call Close.
func Up(ctx context.Context, o Options) (_ *Rig, err error) {
	r := &Rig{LeftOut: map[string]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	for i, b := range o.Builds {
		l, err := upLab(ctx, fmt.Sprintf("ulbench%d-%d", os.Getpid(), i), o.Tools, b, o.Dir, enabled)
		if err != nil {
			return r, err
		}
		r.labs = append(r.labs, l)
		r.Subjects = append(r.Subjects, meshed(b.Name, l))
	}
	if len(r.labs) == 0 {
		return r, errors.New("there is nothing to measure")
	}
	first := r.labs[0]
	if slices.Contains(o.Peers, Observed) {
		// In a lab of its own: the programs that watch see all packets of a node.
		l, err := upLab(ctx, fmt.Sprintf("ulbench%d-%d", os.Getpid(), len(o.Builds)), o.Tools, o.Builds[0], o.Dir, observe)
		if err != nil {
			return r, err
		}
		r.labs = append(r.labs, l)
		s := direct(Observed, l, inMesh)
		s.pids, s.nodes, s.seen = l.agents, []string{"node-1", "node-2"}, true
		r.Subjects = slices.Insert(r.Subjects, 0, s)
	}
	if slices.Contains(o.Peers, Direct) {
		r.Subjects = slices.Insert(r.Subjects, 0, direct(Direct, first, bare))
	}
	certs, err := pki.Make(o.Dir)
	if err != nil {
		return r, err
	}
	for i, p := range peers.All {
		if !slices.Contains(o.Peers, p.Name) {
			continue
		}
		dir := filepath.Join(o.Dir, p.Name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return r, err
		}
		tool, err := p.Find(ctx, dir)
		if err != nil {
			r.LeftOut[p.Name] = err.Error()
			continue
		}
		s, err := startPeer(ctx, first, &p, peers.Setup{Dir: dir, Tool: tool, PKI: certs, CPUs: o.CPUs}, uint16(20000+1000*i))
		if err != nil {
			return r, fmt.Errorf("%s: %w", p.Name, err)
		}
		r.Subjects = append(r.Subjects, s)
	}
	return r, nil
}

// Close takes everything down.
func (r *Rig) Close() error {
	var errs []error
	for _, l := range r.labs {
		errs = append(errs, l.down())
	}
	r.labs = nil
	return errors.Join(errs...)
}

// meshed is the subject for the mesh of a lab. The client connects to the service.
func meshed(name string, l *lab) *Subject {
	return &Subject{
		Name: name, lab: l, client: l.pod(inMesh, "client"), nodes: []string{"node-1", "node-2"},
		target: func(t Topology, p work.Port) netip.AddrPort {
			return netip.AddrPortFrom(l.clusterIP(inMesh, t.server()), p.Number)
		},
		pids: l.agents,
	}
}

// direct is a subject without a proxy, from pod to pod.
func direct(name string, l *lab, namespace string) *Subject {
	return &Subject{
		Name: name, lab: l, client: l.pod(namespace, "client"), pids: func() []int { return nil },
		target: func(t Topology, p work.Port) netip.AddrPort {
			return netip.AddrPortFrom(l.pod(namespace, t.server()).IP(), p.Number)
		},
	}
}

// Ports of a peer's process, added to its base: the entry of two hops, the port
// between them, and the entry of a single hop.
const (
	entryCross = 0
	between    = 100
	entrySame  = 200
)

// hops returns the hops of the two processes of a peer. node has the addresses of
// the nodes.
func hops(p *peers.Peer, base uint16, node [2]netip.Addr, near, far netip.Addr) (first, second []peers.Hop) {
	for i, port := range work.Ports {
		if !slices.Contains(p.Carries, port.Proto) {
			continue
		}
		at := func(addr netip.Addr, offset int) netip.AddrPort {
			return netip.AddrPortFrom(addr, base+uint16(offset+i))
		}
		middle := at(node[1], between)
		first = append(first,
			peers.Hop{Port: port, Listen: at(node[0], entryCross), Connect: middle, TLSOut: !p.Plain},
			peers.Hop{Port: port, Listen: at(node[0], entrySame), Connect: netip.AddrPortFrom(near, port.Number)},
		)
		second = append(second, peers.Hop{Port: port, Listen: middle, Connect: netip.AddrPortFrom(far, port.Number), TLSIn: !p.Plain})
	}
	return first, second
}

func startPeer(ctx context.Context, l *lab, p *peers.Peer, s peers.Setup, base uint16) (*Subject, error) {
	node := [2]netip.Addr{l.state.Nodes[0].Addrs[0], l.state.Nodes[1].Addrs[0]}
	if p.InPods {
		node = [2]netip.Addr{l.pod(bare, "client").IP(), l.pod(bare, "far").IP()}
	}
	first, second := hops(p, base, node, l.pod(bare, "near").IP(), l.pod(bare, "far").IP())
	var places []host.Place
	for i, h := range [][]peers.Hop{first, second} {
		name := l.state.Nodes[i].Name
		place, err := l.place(name, "bench-"+p.Name)
		if err != nil {
			return nil, err
		}
		if p.InPods {
			place.Netns = l.pod(bare, [2]string{"client", "far"}[i]).Netns
		}
		setup := s
		setup.Dir, setup.Hops = filepath.Join(s.Dir, name), h
		if err := startProcess(ctx, p, setup, place); err != nil {
			return nil, err
		}
		places = append(places, place)
	}
	return &Subject{
		Name: p.Name, lab: l, client: l.pod(bare, "client"),
		target: func(t Topology, port work.Port) netip.AddrPort {
			if !slices.Contains(p.Carries, port.Proto) || t == SameNode && p.CrossOnly {
				return netip.AddrPort{}
			}
			offset := entryCross
			if t == SameNode {
				offset = entrySame
			}
			return netip.AddrPortFrom(node[0], base+uint16(offset+slices.Index(work.Ports, port)))
		},
		pids: func() []int {
			return append(host.CgroupProcs(places[0].Cgroup), host.CgroupProcs(places[1].Cgroup)...)
		},
	}, nil
}

// listenTime is the longest time that a peer may take to listen.
const listenTime = 30 * time.Second

func startProcess(ctx context.Context, p *peers.Peer, s peers.Setup, place host.Place) error {
	cmd, err := p.Command(s)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.Dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C goes to the harness only, which ends the peer with its lab
	if err := host.Start(cmd, place); err != nil {
		return fmt.Errorf("start it: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, listenTime)
	defer cancel()
	for _, h := range s.Hops {
		for !listens(place, h.Listen) {
			select {
			case err := <-ended:
				text, _ := os.ReadFile(log.Name()) // may be empty
				return fmt.Errorf("it has ended: %w\n%s", err, text)
			case <-ctx.Done():
				text, _ := os.ReadFile(log.Name())
				return fmt.Errorf("it does not listen on %s: %w\n%s", h.Listen, ctx.Err(), text)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// listens tries to connect from the place of the process.
func listens(place host.Place, at netip.AddrPort) bool {
	ok := false
	_ = host.InNetns(place.Netns, func() error {
		c, err := net.DialTimeout("tcp", at.String(), time.Second)
		if err == nil {
			ok = true
			c.Close()
		}
		return err
	})
	return ok
}
