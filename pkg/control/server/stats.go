package server

import "sync/atomic"

type serverCounters struct {
	deltas, resources, nacks  atomic.Uint64
	signed, refused           atomic.Uint64
	bootstrapped, bootRefused atomic.Uint64
}

// Stats are counts since the Server was created. Agents, Version and Workloads are
// current values.
type Stats struct {
	Agents            int    // nodes with a stream
	Version           uint64 // of the published Snapshot
	Workloads         int    // in the published Snapshot
	Deltas            uint64 // sent
	Resources         uint64 // sent within deltas
	Nacks             uint64 // deltas that an agent refused
	Signed            uint64 // workload certificates
	SignRefused       uint64
	Bootstrapped      uint64 // node certificates, renewals included
	BootstrapsRefused uint64
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	out := Stats{
		Deltas:            s.stats.deltas.Load(),
		Resources:         s.stats.resources.Load(),
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
	s.mu.Lock()
	defer s.mu.Unlock()
	nodes := map[string]struct{}{}
	for _, node := range s.streams {
		nodes[node] = struct{}{}
	}
	out.Agents = len(nodes)
	return out
}
