package server

import "sync/atomic"

type serverCounters struct {
	looks                     atomic.Uint64
	deltas, resources, nacks  atomic.Uint64
	answers                   atomic.Uint64
	signed, refused           atomic.Uint64
	bootstrapped, bootRefused atomic.Uint64
}

// Stats are counts since the Server was created. Agents, Behind, Waiting, Version and
// Workloads are current values.
type Stats struct {
	Agents            int    // nodes with a stream
	Behind            int    // streams whose agent lacks something that it should have, or has not answered in time
	Waiting           int    // other streams that are to get something that waits for more
	Version           uint64 // of the published Snapshot
	Workloads         int    // in the published Snapshot
	Looks             uint64 // how often a stream has looked at a Snapshot
	Deltas            uint64 // sent
	Resources         uint64 // sent within deltas
	Answers           uint64 // of agents
	Nacks             uint64 // deltas that an agent refused
	Signed            uint64 // workload certificates
	SignRefused       uint64
	Bootstrapped      uint64 // node certificates, renewals included
	BootstrapsRefused uint64
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	out := Stats{
		Looks:             s.stats.looks.Load(),
		Deltas:            s.stats.deltas.Load(),
		Resources:         s.stats.resources.Load(),
		Answers:           s.stats.answers.Load(),
		Nacks:             s.stats.nacks.Load(),
		Signed:            s.stats.signed.Load(),
		SignRefused:       s.stats.refused.Load(),
		Bootstrapped:      s.stats.bootstrapped.Load(),
		BootstrapsRefused: s.stats.bootRefused.Load(),
	}
	if snap := s.snapshot.Load(); snap != nil {
		out.Version = snap.version
		out.Workloads = snap.pods
	}
	out.Agents = s.streams.agents()
	out.Behind, out.Waiting = s.streams.behind()
	return out
}
