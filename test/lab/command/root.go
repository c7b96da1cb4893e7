// Package command is the lab's command line.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/lab/layout"
)

// NameVariable names the lab that commands use, like --state.
const NameVariable = "UNDERLANE_LAB"

// app is what all commands have in common.
type app struct {
	name      string // of the lab
	namespace string
}

// Main runs the command line and returns the exit status.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	return 0
}

func newRoot() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:           "lab",
		Short:         "Real nodes and pods on this machine, without Kubernetes",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	name := os.Getenv(NameVariable)
	if name == "" {
		name = layout.DefaultName
	}
	root.PersistentFlags().StringVar(&a.name, "state", name, "name of the lab; its state is in "+layout.RunDir+"/NAME ($"+NameVariable+")")
	root.AddCommand(
		a.up(), a.supervise(), a.down(),
		a.apply(), a.delete(), a.scale(), a.mark("label", false), a.mark("annotate", true),
		a.pods(), a.nodes(), a.services(), a.logs(),
		a.exec(), a.nodeExec(), a.agent(),
		a.kill("kill-agent NODE", "Signal the agent of a node", 1), a.start("start-agent NODE", "Start the agent of a node again", 1),
		a.kill("kill-controller", "Signal the controller", 0), a.start("start-controller", "Start the controller again", 0),
		a.restartController(),
	)
	root.AddCommand(a.watching()...)
	return root
}

// inNamespace adds -n to a command.
func (a *app) inNamespace(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVarP(&a.namespace, "namespace", "n", "default", "namespace")
	return cmd
}

func (a *app) layout() (layout.Layout, error) { return layout.Open(a.name) }

// client returns a client of the running lab.
func (a *app) client() (*api.Client, error) {
	l, err := a.layout()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(l.Socket()); err != nil {
		return nil, fmt.Errorf("no lab %q is up: try `lab up FILE`", a.name)
	}
	return api.NewClient(l.Socket()), nil
}

func (a *app) state(ctx context.Context) (api.State, error) {
	c, err := a.client()
	if err != nil {
		return api.State{}, err
	}
	return c.State(ctx)
}

// ownDir returns the directory of this program.
func ownDir() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return filepath.Dir(self), nil
}

func needRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("the lab makes namespaces and cgroups: run it as root")
	}
	return nil
}
