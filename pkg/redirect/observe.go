package redirect

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/underlane/underlane/bpf"
)

// Observer sees what pods send and receive over TCP, and redirects nothing (bpf/observe.c).
// Its programs are loaded and attached while it has a pod. They are not pinned: without an
// agent that reads, there is nothing to see. It is safe for concurrent use.
type Observer struct {
	root   string
	shared map[string]*ebpf.Map // with the programs of the mesh

	mu      sync.Mutex
	pods    map[uint64]Scope // by the cookie of their network namespace
	objs    *bpf.ObserveObjects
	links   []link.Link
	reader  *ring
	opening Opening
	counts  map[string]uint64 // of programs that are not loaded any more
}

// NewObserver returns an Observer of the node's pods. It loads nothing yet.
func NewObserver(d *Datapath) *Observer {
	return &Observer{
		root: d.opts.CgroupRoot, pods: make(map[uint64]Scope), counts: make(map[string]uint64),
		shared: map[string]*ebpf.Map{"sockets": d.objs.Sockets, "events": d.objs.Events, "counters": d.objs.Counters},
	}
}

// Opening says whose a flow is.
type Opening struct {
	Pod           uint64 // cookie of its network namespace
	Local, Remote netip.AddrPort
	Name          netip.AddrPort // what the client has connected to; Remote, if that is the same
	Server        bool           // the pod has accepted the connection; a guess if Joined is set
	Joined        bool           // its beginning was not seen
	Path          bool           // the kernel path has it
	First         [2]uint32      // sequence numbers of the first bytes: received, sent
}

// Observation is a segment of a flow, which is a connection of an observed pod, or a part of
// one; or, if Opening is set, whose the flow is of which segments follow.
type Observation struct {
	Opening     *Opening // valid during the call
	Flow        uint64
	Sent        bool          // by the pod
	Time        time.Duration // CLOCK_MONOTONIC
	Seq, Length uint32        // of the payload
	Skipped     uint32        // bytes of the payload before Data
	Data        []byte        // the first bytes that were not skipped, up to 1024
	Tail        []byte        // the segment's last 8 bytes, if it has as many
	Fin, Reset  bool
	Unwalked    bool // the kernel does not know where the frames of HTTP/2 begin
}

// Wish is what is wanted of a flow from now on. Index 0 is what the pod receives, 1 what it
// sends.
type Wish struct {
	SkipTo [2]uint32 // sequence number; segments that end at it or before are not needed
	Frame  [2]uint32 // sequence number where a frame of HTTP/2 begins; what is before is not needed
	Skip   [2]bool   // SkipTo is set
	Framed [2]bool   // Frame is set
	Off    bool      // nothing is wanted
}

// Scope is which connections of a pod are seen.
type Scope uint8

const (
	All   Scope = iota // also those that are open already, from their next segment on
	Paths              // those that begin from now on, on the kernel path
)

// Observe adds a pod, or changes its scope. An error of the first pod is that of the kernel,
// which may not have what this needs.
func (o *Observer) Observe(cookie uint64, scope Scope) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.objs == nil {
		if err := o.load(); err != nil {
			return err
		}
	}
	if err := o.objs.ObservedPods.Put(cookie, &bpf.ObserveObservedPod{PathsOnly: flag(scope == Paths)}); err != nil {
		return fmt.Errorf("observe a pod: %w (8192 pods a node is the limit)", err)
	}
	o.pods[cookie] = scope
	return o.join()
}

// join makes the kernel join open connections while a pod wants that. mu is held.
func (o *Observer) join() error {
	joining := false
	for _, scope := range o.pods {
		joining = joining || scope == All
	}
	if err := o.objs.Joining.Set(flag(joining)); err != nil {
		return fmt.Errorf("join open connections: %w", err)
	}
	return nil
}

// Leave removes a pod. With the last one the programs are detached.
func (o *Observer) Leave(cookie uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.pods[cookie]; !ok {
		return
	}
	delete(o.pods, cookie)
	_ = o.objs.ObservedPods.Delete(cookie)
	if len(o.pods) == 0 {
		o.unload()
		return
	}
	_ = o.join()
}

// Close removes all pods.
func (o *Observer) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.pods)
	if o.objs != nil {
		o.unload()
	}
}

func (o *Observer) load() error {
	objs := new(bpf.ObserveObjects)
	if err := bpf.LoadObserveObjects(objs, &ebpf.CollectionOptions{MapReplacements: o.shared}); err != nil {
		return fmt.Errorf("load the programs that observe: %w", err)
	}
	o.objs = objs
	for _, h := range []struct {
		typ  ebpf.AttachType
		prog *ebpf.Program
	}{
		{ebpf.AttachCGroupInetIngress, objs.ObserveReceived},
		{ebpf.AttachCGroupInetEgress, objs.ObserveSent},
		{ebpf.AttachCGroupSockOps, objs.ObserveOpened}, // last: from now on there are flows
	} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: o.root, Attach: h.typ, Program: h.prog})
		if err != nil {
			o.unload()
			return fmt.Errorf("attach the programs that observe to cgroup %s: %w", o.root, err)
		}
		o.links = append(o.links, l)
	}
	reader, err := openRing(objs.Observations)
	if err != nil {
		o.unload()
		return fmt.Errorf("observations: %w", err)
	}
	o.reader = reader
	return nil
}

// unload detaches and forgets everything. mu is held.
func (o *Observer) unload() {
	for _, l := range o.links {
		_ = l.Close()
	}
	_ = o.count(o.counts)
	if o.reader != nil {
		o.reader.close()
	}
	_ = o.objs.Close()
	o.links, o.reader, o.objs = nil, nil, nil
}

// Read calls handle for each Observation, and does not wait. It returns how many
// there were. handle must not keep the Observation, whose slices are valid during the call
// only, and may call no method but Want.
func (o *Observer) Read(handle func(*Observation)) (n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.reader == nil || o.reader.empty() {
		return 0, nil
	}
	var seen Observation
	read := func(record []byte) {
		if seen.decode(record, &o.opening) {
			handle(&seen)
		}
	}
	for ; n < readAtOnce; n++ {
		more, err := o.reader.read(read)
		if err != nil {
			return n, fmt.Errorf("observations: %w", err)
		}
		if !more {
			return n, nil
		}
	}
	return n, nil
}

// readAtOnce bounds a Read, so that Observe and Leave get their turn.
const readAtOnce = 4096

// Want says what is wanted of a flow. It is only for the handler of Read, which has the lock.
func (o *Observer) Want(flow uint64, w Wish) error {
	value := bpf.ObserveObserveWish{
		SkipTo: w.SkipTo, Skip: [2]uint8{flag(w.Skip[0]), flag(w.Skip[1])}, Off: flag(w.Off),
		Frame: w.Frame, Framed: [2]uint8{flag(w.Framed[0]), flag(w.Framed[1])},
	}
	if err := o.objs.ObserveWishes.Put(flow, &value); err != nil {
		return fmt.Errorf("wishes of observed flows: %w", err)
	}
	return nil
}

// decode reads a record. Its opening, if it is one, goes to o.
func (s *Observation) decode(sample []byte, o *Opening) bool {
	const head = int(unsafe.Sizeof(bpf.ObserveObservation{}))
	if len(sample) < head {
		return false
	}
	raw := (*bpf.ObserveObservation)(unsafe.Pointer(unsafe.SliceData(sample)))
	if raw.Kind == uint8(bpf.ObserveObserveKindOBSERVE_OPENING) {
		*s = Observation{Opening: o, Flow: raw.Flow, Time: time.Duration(raw.TimeNs)}
		return o.decode(sample)
	}
	data := sample[head:]
	if int(raw.Copied) > len(data) || int(raw.TailLength) > len(raw.Tail) {
		return false
	}
	*s = Observation{
		Flow: raw.Flow, Sent: raw.Sent != 0, Time: time.Duration(raw.TimeNs),
		Seq: raw.Seq, Length: raw.Length, Skipped: raw.Skipped,
		Data: data[:raw.Copied], Tail: raw.Tail[:raw.TailLength],
		Fin: raw.Flags&1 != 0, Reset: raw.Flags&4 != 0, Unwalked: raw.Flags&0x80 != 0,
	}
	return true
}

func (o *Opening) decode(sample []byte) bool {
	if len(sample) < int(unsafe.Sizeof(bpf.ObserveObservedOpening{})) {
		return false
	}
	raw := (*bpf.ObserveObservedOpening)(unsafe.Pointer(unsafe.SliceData(sample)))
	*o = Opening{
		Pod: raw.NetnsCookie, Server: raw.Server != 0, Joined: raw.Joined != 0, Path: raw.Path != 0, First: raw.First,
		Local:  netip.AddrPortFrom(netip.AddrFrom16(raw.Local.Bytes).Unmap(), raw.LocalPort),
		Remote: netip.AddrPortFrom(netip.AddrFrom16(raw.Remote.Bytes).Unmap(), raw.RemotePort),
		Name:   netip.AddrPortFrom(netip.AddrFrom16(raw.Name.Bytes).Unmap(), raw.NamePort),
	}
	return true
}

// observeCounterNames are the metric labels, in the order of enum observe_counter.
var observeCounterNames = [bpf.ObserveObserveCounterNUM_OBSERVE_COUNTERS]string{
	bpf.ObserveObserveCounterOBSERVE_RECORD:      "observe-record",
	bpf.ObserveObserveCounterOBSERVE_SKIPPED:     "observe-skipped",
	bpf.ObserveObserveCounterOBSERVE_LIMITED:     "observe-limited",
	bpf.ObserveObserveCounterOBSERVE_LOST:        "observe-lost",
	bpf.ObserveObserveCounterOBSERVE_SHED:        "observe-shed",
	bpf.ObserveObserveCounterOBSERVE_JOINED:      "observe-joined",
	bpf.ObserveObserveCounterOBSERVE_FLOW_FAILED: "observe-flow-failed",
	bpf.ObserveObserveCounterOBSERVE_READ_FAILED: "observe-read-failed",
}

// Counters adds to counts the counters of the programs that observe, by name.
func (o *Observer) Counters(counts map[string]uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, name := range observeCounterNames {
		counts[name] = o.counts[name]
	}
	if o.objs == nil {
		return nil
	}
	return o.count(counts)
}

// Missed is how many segments were not given to the reader although they were needed: the ring
// was full, or the pod has had its share.
func (o *Observer) Missed() (n uint64, err error) {
	counts := make(map[string]uint64, len(observeCounterNames))
	err = o.Counters(counts)
	for _, what := range [...]bpf.ObserveObserveCounter{bpf.ObserveObserveCounterOBSERVE_LIMITED, bpf.ObserveObserveCounterOBSERVE_LOST, bpf.ObserveObserveCounterOBSERVE_SHED} {
		n += counts[observeCounterNames[what]]
	}
	return n, err
}

func (o *Observer) count(counts map[string]uint64) error {
	now := make(map[string]uint64, len(observeCounterNames))
	if err := readCounters(now, o.objs.ObserveCounters, observeCounterNames[:]); err != nil {
		return err
	}
	for name, n := range now {
		counts[name] += n
	}
	return nil
}
