// Package node has the commands of `agent` that a user runs on a node. They use
// only the agent's socket. The main package passes in the functions that need the
// kernel (probes, cleanup).
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

// Default paths on a node. A flag or the environment can change them.
const (
	DefaultSocket  = "/run/underlane/agent.sock"
	DefaultPinRoot = mesh.DefaultPinRoot
	DefaultCgroup  = "auto"
)

// Flags are the settings that all commands of a node share.
type Flags struct {
	Socket     string // --socket, $UNDERLANE_SOCKET
	PinRoot    string // --pin-root, $UNDERLANE_PIN_ROOT
	CgroupRoot string // --cgroup-root, $UNDERLANE_CGROUP_ROOT; auto is the host's cgroup v2 root
}

// AddFlags defines the shared flags as persistent flags of root.
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

// Kernel has the functions that access the kernel. Each may be nil.
type Kernel struct {
	// Probes are the checks of category kernel-features.
	Probes func(*Flags) []check.Probe
	// Pins are the checks of category pinned-objects.
	Pins func(*Flags) []check.Probe
	// Cleanup detaches and unpins everything under the flags' roots. It returns a
	// line for each removed object.
	Cleanup func(ctx context.Context, f *Flags) (removed []string, err error)
}

// Commands returns the commands of `agent` except run: tap, top, stat, edges, dashboard,
// status, why, check, dump and cleanup.
func Commands(f *Flags, k Kernel) []*cobra.Command {
	return append(StatCommands(f), DashboardCommand(f, k),
		TapCommand(f), TopCommand(f), StatusCommand(f), WhyCommand(f), AuthzCommand(f),
		CheckCommand(f, k), DumpCommand(f), CleanupCommand(f, k),
	)
}

// maxMessage allows for Dump, which sends the state of a large node in one message.
const maxMessage = 256 << 20

// dial opens the node API on the agent's socket. gRPC connects at the first call;
// explain makes the error of that call clear to users.
func (f *Flags) dial() (agentv1.NodeClient, func(), error) {
	conn, err := grpc.NewClient("unix:"+f.Socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, nil, fmt.Errorf("open agent socket %s: %w", f.Socket, err)
	}
	return agentv1.NewNodeClient(conn), func() { _ = conn.Close() }, nil
}

// explain adds the most likely cause to the error of a failed call to the agent.
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
