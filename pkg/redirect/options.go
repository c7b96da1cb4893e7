package redirect

import (
	"log/slog"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

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
