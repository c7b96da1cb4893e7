// Package node holds the commands of `agent` that people type on a node. They talk
// to the agent over its socket only; what needs the kernel (probes, cleanup) is
// handed in by the main package.
package node

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/mesh"
)

// Where a node keeps its things unless a flag or the environment says otherwise.
const (
	DefaultSocket  = "/run/underlane/agent.sock"
	DefaultPinRoot = mesh.DefaultPinRoot
	DefaultCgroup  = "auto"
)

// Flags are the settings that every command of one node shares.
type Flags struct {
	Socket     string // --socket, $UNDERLANE_SOCKET
	PinRoot    string // --pin-root, $UNDERLANE_PIN_ROOT
	CgroupRoot string // --cgroup-root, $UNDERLANE_CGROUP_ROOT; auto is the host's cgroup v2 root
}

// AddFlags defines the shared flags on root, for all of its commands.
func AddFlags(root *cobra.Command) *Flags {
	f := &Flags{}
	p := root.PersistentFlags()
	p.StringVar(&f.Socket, "socket", cmp.Or(os.Getenv("UNDERLANE_SOCKET"), DefaultSocket),
		"unix socket of this node's agent ($UNDERLANE_SOCKET)")
	p.StringVar(&f.PinRoot, "pin-root", cmp.Or(os.Getenv("UNDERLANE_PIN_ROOT"), DefaultPinRoot),
		"directory of the pinned BPF objects ($UNDERLANE_PIN_ROOT)")
	p.StringVar(&f.CgroupRoot, "cgroup-root", cmp.Or(os.Getenv("UNDERLANE_CGROUP_ROOT"), DefaultCgroup),
		"cgroup v2 directory the programs attach to; auto is the root of the host's ($UNDERLANE_CGROUP_ROOT)")
	return f
}

// Kernel is what the commands need of the kernel's side. Any may be nil.
type Kernel struct {
	// Probes are the checks of category kernel-features.
	Probes func(*Flags) []check.Probe
	// Pins are the checks of category pinned-objects.
	Pins func(*Flags) []check.Probe
	// Cleanup detaches and unpins everything under the flags' roots and
	// returns what it removed, a line each.
	Cleanup func(ctx context.Context, f *Flags) (removed []string, err error)
}

// Commands are the commands of `agent` without run: tap, top, status, check, dump
// and cleanup.
func Commands(f *Flags, k Kernel) []*cobra.Command {
	return []*cobra.Command{
		TapCommand(f), TopCommand(f), StatusCommand(f),
		CheckCommand(f, k), DumpCommand(f), CleanupCommand(f, k),
	}
}

// maxMessage is for Dump: the state of a large node in one message.
const maxMessage = 256 << 20

// dial opens the node API on the agent's socket. The connection is made at the
// first call: explain turns its error into one that people can act on.
func (f *Flags) dial() (agentv1.NodeClient, func(), error) {
	conn, err := grpc.NewClient("unix:"+f.Socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, nil, fmt.Errorf("open agent socket %s: %w", f.Socket, err)
	}
	return agentv1.NewNodeClient(conn), func() { _ = conn.Close() }, nil
}

// explain says what a failed call to the agent most likely means.
func (f *Flags) explain(err error) error {
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	if st.Code() == codes.DeadlineExceeded {
		return fmt.Errorf("the agent on %s does not answer: it hangs, or is stopped by a signal", f.Socket)
	}
	if st.Code() != codes.Unavailable {
		return fmt.Errorf("agent: %s", st.Message())
	}
	if _, serr := os.Stat(f.Socket); os.IsNotExist(serr) {
		return fmt.Errorf("no agent socket at %s: is the agent running on this node? (--socket, $UNDERLANE_SOCKET)", f.Socket)
	} else if os.IsPermission(serr) {
		return fmt.Errorf("agent socket %s: permission denied: run as root", f.Socket)
	}
	return fmt.Errorf("the agent does not answer on %s: it is stopped, or you are not root: %s", f.Socket, st.Message())
}
