// Package redirect controls the kernel side of a node. It loads and pins the eBPF
// programs, enrols and withdraws pods, makes sockets in the pods' namespaces, and
// reads kernel events.
package redirect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/heartbeat"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"golang.org/x/sys/unix"
)

// Mark is the SO_MARK of the agent's own sockets. The hooks do not capture sockets with
// this mark. A pod with CAP_NET_ADMIN can set the mark too and so keep its outbound
// connections out of the mesh. This is allowed: the policy is enforced at the server's
// node.
const Mark = 0x756c616e // "ulan"

// Options of Load. The zero value of a field means its default.
type Options struct {
	CgroupRoot       string        // cgroup v2 directory whose processes are hooked; "" or AutoCgroup: the host's root
	PinRoot          string        // bpffs directory of pins; default /sys/fs/bpf/underlane
	HeartbeatTimeout time.Duration // an agent without a heartbeat for this time counts as hung; default 2 s
	Proc             string        // proc file system of the host; default /proc
	HostNetns        string        // network namespace of the node's own processes; default /proc/self/ns/net
	DNS              bool          // DNS answers of enrolled pods are seen: see Answers
	Log              *slog.Logger
}

// DefaultPinRoot is the default of Options.PinRoot.
const DefaultPinRoot = mesh.DefaultPinRoot

const linksDir = "links"

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
	log  *slog.Logger
	objs bpf.UnderlaneObjects
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

func (opts Options) withDefaults() (Options, error) {
	if opts.PinRoot == "" {
		opts.PinRoot = DefaultPinRoot
	}
	if opts.HeartbeatTimeout == 0 {
		opts.HeartbeatTimeout = 2 * time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.HostNetns == "" {
		opts.HostNetns = "/proc/self/ns/net"
	}
	if opts.Proc == "" {
		opts.Proc = "/proc"
	}
	if opts.CgroupRoot == "" || opts.CgroupRoot == AutoCgroup {
		root, err := hostCgroup(opts.Proc)
		if err != nil {
			return opts, err
		}
		opts.CgroupRoot = root
	}
	return opts, nil
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
	opts := &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: d.opts.PinRoot}}
	err := bpf.LoadUnderlaneObjects(&d.objs, opts)
	if errors.Is(err, ebpf.ErrMapIncompatible) {
		// The pins are of another version, whose structs differ. The links stay: a
		// pod's sk_lookup link keeps the old program, which has its own maps, until
		// the pod is enrolled again. Without that link a strict pod would be open.
		d.log.Warn("pinned maps are of another version: starting with new ones", "pins", d.opts.PinRoot, "cause", err)
		if err := dropIncompatible(d.opts.PinRoot); err != nil {
			return err
		}
		err = bpf.LoadUnderlaneObjects(&d.objs, opts)
	}
	if err != nil {
		return d.explain(err)
	}
	if d.lookups, err = newLookups(&d.objs); err != nil {
		return errors.Join(err, d.objs.Close())
	}
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

// hook is a program that runs for all sockets below the cgroup root.
type hook struct {
	name string
	typ  ebpf.AttachType
	prog *ebpf.Program
}

func (d *programs) hooks() []hook {
	p := &d.objs.UnderlanePrograms
	hooks := []hook{
		{"connect4", ebpf.AttachCGroupInet4Connect, p.Connect4},
		{"connect6", ebpf.AttachCGroupInet6Connect, p.Connect6},
		{"getpeername4", ebpf.AttachCgroupInet4GetPeername, p.Getpeername4},
		{"getpeername6", ebpf.AttachCgroupInet6GetPeername, p.Getpeername6},
		{"getsockname4", ebpf.AttachCgroupInet4GetSockname, p.Getsockname4},
		{"getsockname6", ebpf.AttachCgroupInet6GetSockname, p.Getsockname6},
		{"sock_ops", ebpf.AttachCGroupSockOps, p.SockOps},
	}
	if d.dnsErr == nil {
		hooks = append(hooks, d.dnsHooks()...)
	}
	return hooks
}

// attachCgroup attaches the hooks, or updates the links that an earlier agent has
// pinned.
func (d *programs) attachCgroup() error {
	for _, h := range d.hooks() {
		if err := d.attach(h); err != nil {
			return err
		}
	}
	return nil
}

func (d *programs) attach(h hook) error {
	l, err := pinnedLink(d.linkPin(h.name), h.prog, func() (link.Link, error) {
		return link.AttachCgroup(link.CgroupOptions{Path: d.opts.CgroupRoot, Attach: h.typ, Program: h.prog})
	})
	if err != nil {
		return fmt.Errorf("attach %s to cgroup %s: %w", h.name, d.opts.CgroupRoot, err)
	}
	d.links[h.name] = l
	return nil
}

func (d *programs) linkPin(name string) string { return filepath.Join(d.opts.PinRoot, linksDir, name) }

func (d *programs) lookupPin(cookie string) string { return d.linkPin("sk_lookup_" + cookie) }

// cgroupLinks are the names of the hooks.
var cgroupLinks = []string{"connect4", "connect6", "getpeername4", "getpeername6", "getsockname4", "getsockname6", "sock_ops"}

// pinnedLink takes over the link that is pinned at path. If there is none, it attaches
// and pins one.
func pinnedLink(path string, prog *ebpf.Program, attach func() (link.Link, error)) (link.Link, error) {
	if l, err := link.LoadPinnedLink(path, nil); err == nil {
		if err := l.Update(prog); err == nil {
			return l, nil
		}
		// A link whose cgroup or namespace is gone cannot be updated.
		l.Close()
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove dead pin: %w", err)
		}
	}
	l, err := attach()
	if err != nil {
		return nil, err
	}
	if err := l.Pin(path); err != nil {
		l.Close()
		return nil, fmt.Errorf("pin: %w", err)
	}
	return l, nil
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

// Yield lets another process load the datapath. This process keeps its listeners,
// sockets and heartbeat. Until Resume, the caller must not enrol, withdraw, update or
// repair anything.
func (d *Datapath) Yield() error {
	lock := d.lock
	d.lock = nil
	return lock.Close()
}

// LetGo closes the process's handles of d's links, after another process has
// the pods; its listeners stay. Links that are pinned are those of the other process by
// now. But an agent of v0.1.0 that finds maps of another version removes all pins and
// attaches its programs beside these, which would capture connections until Close, and
// refuse those of pods that fail closed as soon as the listeners are gone.
func LetGo(d *Datapath) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, l := range d.links {
		l.Close()
		delete(d.links, name)
	}
	for _, p := range d.pods {
		p.closeLinks()
	}
}

// Resume undoes Yield after the other process has ended: this process owns the pods
// again. It returns what it had to repair.
func (d *Datapath) Resume(ctx context.Context) (repaired []string, err error) {
	for limit := time.Now().Add(resumeLimit); ; time.Sleep(10 * time.Millisecond) {
		d.lock, err = lockPins(d.opts.PinRoot)
		if err == nil {
			return d.Repair()
		}
		if ctx.Err() != nil || time.Now().After(limit) {
			return nil, err
		}
	}
}

// resumeLimit bounds how long Resume waits for the other process to release the pins.
const resumeLimit = 3 * time.Second

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

// startHeartbeat writes the first heartbeat and starts the thread that writes the others.
func (d *programs) startHeartbeat() error {
	if err := d.beat(); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	st := d.agentState()
	d.heart = heartbeat.Start(heartbeat.Config{
		Map: d.objs.Agent.FD(), Value: unsafe.Slice((*byte)(unsafe.Pointer(&st)), unsafe.Sizeof(st)),
		Interval: d.opts.HeartbeatTimeout / 8, Limit: max(10*time.Second, 5*d.opts.HeartbeatTimeout),
		Log: d.log,
	})
	return nil
}

// agentState returns the entry of the agent map, with the current time as heartbeat.
func (d *programs) agentState() bpf.UnderlaneAgentState {
	return bpf.UnderlaneAgentState{
		HeartbeatNs:        monotonicNow(),
		HeartbeatTimeoutNs: uint64(d.opts.HeartbeatTimeout),
		HostNetnsCookie:    d.hostCookie,
		CgroupRootId:       d.cgroupRoot,
		Mark:               Mark,
		Pid:                uint32(os.Getpid()),
	}
}

func (d *programs) beat() error {
	st := d.agentState()
	return d.objs.Agent.Put(uint32(0), &st)
}

// monotonicNow returns the time of bpf_ktime_get_ns, in nanoseconds.
func monotonicNow() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return uint64(ts.Nano())
}
