// Package redirect controls the kernel side of a node. It loads and pins the eBPF
// programs, enrols and withdraws pods, makes sockets in the pods' namespaces, and
// reads kernel events.
package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/redirect/heartbeat"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"golang.org/x/sys/unix"
)

// Mark is the SO_MARK of the agent's own sockets. The hooks do not capture sockets with
// this mark. A pod with CAP_NET_ADMIN can set the mark too and so keep its outbound
// connections out of the mesh. This is allowed: the policy is enforced at the server's
// node.
const Mark = 0x756c616e // "ulan"

// Datapath is the node's loaded programs and maps.
//
// It is made of layers, each of which embeds the one below it and uses none above: kernelMaps,
// programs. Datapath itself has the pods.
type Datapath struct {
	programs

	mu   sync.Mutex
	pods map[string]*Pod // by UID
}

// programs are attached at the cgroup and kept by pins, and the heartbeat tells them that the
// agent runs (answers.go).
type programs struct {
	kernelMaps
	opts    Options
	links   map[string]link.Link // cgroup links by name; pinned
	lookups *lookups
	lock    *os.File // held while this agent owns the pins

	hostCookie uint64 // of the node's own network namespace
	cgroupRoot uint64 // id of the cgroup root

	heart *heartbeat.Thread // nil: not loaded yet

	dnsErr error // why DNS answers are not seen; nil: they are
}

// kernelMaps reads and writes the maps (dump.go, events.go, path.go, drift.go).
type kernelMaps struct {
	log     *slog.Logger
	objs    bpf.UnderlaneObjects
	unknown unknownRecords
}

// Load loads the programs, pins everything below PinRoot, attaches the programs to the
// cgroup and starts the heartbeat. It takes over the pins of an earlier agent: maps
// keep their content, and links are updated in place, so that no connection passes
// without the programs.
func Load(opts Options) (*Datapath, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("load: raise memlock limit: %w", err)
	}
	if err := ensureBPFFS(opts.Proc, opts.PinRoot); err != nil {
		return nil, err
	}
	_, err = os.Stat(opts.PinRoot)
	first := errors.Is(err, fs.ErrNotExist)
	lock, err := lockPins(opts.PinRoot)
	if err != nil {
		return nil, err
	}
	d := &Datapath{pods: make(map[string]*Pod)}
	d.opts, d.log, d.lock = opts, opts.Log, lock
	d.links, d.dnsErr = make(map[string]link.Link), errDNSOff
	if err := d.load(); err != nil {
		if first { // no agent has used the pins yet
			err = errors.Join(err, removePins(opts.PinRoot))
		}
		lock.Close()
		return nil, err
	}
	return d, nil
}

// identify reads the cookie of the host's network namespace, which the agent shares
// with the node's own processes, and the id of the cgroup root. The programs tell the
// node's own processes from those of pods by these.
func (d *programs) identify() error {
	host, err := netns.Open(d.opts.HostNetns)
	if err != nil {
		return err
	}
	defer host.Close()
	var root unix.Stat_t
	if err := unix.Stat(d.opts.CgroupRoot, &root); err != nil {
		return fmt.Errorf("cgroup root %s: %w", d.opts.CgroupRoot, err)
	}
	d.hostCookie, d.cgroupRoot = host.Cookie(), root.Ino
	return nil
}

func (d *programs) load() error {
	if err := d.identify(); err != nil {
		return d.explain(err)
	}
	if err := d.loadObjects(); err != nil {
		return err
	}
	d.leaveRedirects()
	if err := d.startHeartbeat(); err != nil {
		d.objs.Close()
		return err
	}
	if err := d.attachCgroup(); err != nil {
		d.closeAll()
		return err
	}
	d.attachDNS()
	return nil
}

func (d *programs) loadObjects() error {
	spec, err := bpf.LoadUnderlane()
	if err != nil {
		return d.explain(err)
	}
	if err := d.dropUnusable(spec); err != nil {
		return err
	}
	opts := &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: d.opts.PinRoot}}
	if err := spec.LoadAndAssign(&d.objs, opts); err != nil {
		return d.explain(err)
	}
	d.lookups = newLookups(spec, &d.objs)
	return nil
}

// explain adds to an error of loading what the kernel or the process lacks. The error
// of the system call alone rarely says it.
func (d *programs) explain(err error) error {
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		d.log.Debug("the kernel refused a program", "verifier", fmt.Sprintf("%+v", verifier))
	}
	var missing []string
	for _, p := range KernelProbes(d.opts.CgroupRoot, d.opts.PinRoot) {
		if failure := p.Run(); failure != nil {
			missing = append(missing, fmt.Sprintf("not true here: %s (%v): %s", p.Name, failure, p.Hint))
		}
	}
	if len(missing) == 0 {
		return fmt.Errorf("load eBPF programs: %w: every feature that is needed seems to be there: please report this with the log of --log-level debug", err)
	}
	return fmt.Errorf("load eBPF programs: %w: %s", err, strings.Join(missing, "; "))
}

// Close stops the heartbeat and closes the listeners. The pins stay: new connections
// of the pods then fail open or closed, by each pod's fail mode, until another agent
// takes over.
func (d *Datapath) Close() error {
	d.mu.Lock()
	for _, p := range d.pods {
		p.CloseListeners()
		p.closeLinks()
		p.Release()
	}
	d.pods = map[string]*Pod{}
	d.mu.Unlock()
	return d.closeAll()
}

func (d *programs) closeAll() error {
	d.heart.Stop() // before its map is closed
	for _, l := range d.links {
		l.Close()
	}
	err := d.objs.Close()
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
	}
	return err
}
