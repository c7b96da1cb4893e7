package redirect

import (
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/redirect/heartbeat"
	"golang.org/x/sys/unix"
)

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
