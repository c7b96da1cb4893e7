// Package cgroup reads what the containers of a pod use of the node: processor time and
// throttling, memory against its limits, OOM kills, and pressure (PSI), from the pod's
// cgroups of version 1, version 2, or both (a hybrid host). It reads also the weight by
// which a pod gets processors. It finds these cgroups by the names that the kubelet gives
// them, or by the pod's processes.
//
// All but Host is pure: it reads file systems that it is given. The files are described in
// the kernel's Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst,
// scheduler/sched-bwc.rst and accounting/psi.rst.
package cgroup

import "time"

// Usage is what a pod uses. Times and counts of events are those since its cgroups were
// made.
type Usage struct {
	Known Known

	CPU      time.Duration // of all processors
	CPULimit float64       // processors; 0: no limit
	// Periods, and those of them in which a cgroup was stopped because it had used up its
	// limit, for ThrottledFor in all: of the pod and of its containers, which have limits of
	// their own. Only periods count in which something ran.
	Periods, Throttled uint64
	ThrottledFor       time.Duration

	// Bytes. Memory has the page cache, too. WorkingSet is Memory without what of it can be
	// dropped easily (inactive files): the kubelet evicts pods by it, and kubectl top shows
	// it.
	Memory, WorkingSet uint64
	Peak               uint64 // the most that Memory was; 0: not known
	MemoryLimit        uint64 // 0: no limit
	// Fill is the largest part of a limit of memory that is in use: of the pod's, or of one
	// of its containers'. 0: there is no limit.
	Fill float64
	// OOMs counts how often the limit was reached and no memory could be reclaimed, OOMKills
	// the processes that were killed then. Version 1 does not count OOMs, and forgets the
	// kills of a container when it is removed.
	OOMs, OOMKills uint64

	CPUPressure, MemoryPressure, IOPressure Pressure
}

// Known says which of a Usage's fields are known.
type Known uint8

// The parts of a Usage.
const (
	KnowsCPU      Known = 1 << iota // CPU
	KnowsLimits                     // CPULimit, and what is throttled
	KnowsMemory                     // memory, its limits, and OOM
	KnowsPressure                   // the three pressures
	Everything    = KnowsCPU | KnowsLimits | KnowsMemory | KnowsPressure
)

// Has reports whether all of those parts are known.
func (k Known) Has(parts Known) bool { return k&parts == parts }

// Pressure is the part of the time in which some task waited for a resource (the lines
// "some" of PSI): over the last 10 and 60 seconds in percent, and in all.
type Pressure struct {
	Avg10, Avg60 float64
	Total        time.Duration
}
