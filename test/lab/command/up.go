package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/lab/fabric"
	"github.com/underlane/underlane/test/lab/host"
	"github.com/underlane/underlane/test/lab/layout"
	"github.com/underlane/underlane/test/lab/manifest"
	"github.com/underlane/underlane/test/lab/supervisor"
	"github.com/underlane/underlane/test/slow"
)

// startPatience bounds the wait for the supervisor to answer. It is longer than
// the time that the supervisor allows the controller and the agents.
var startPatience = slow.Times(3 * time.Minute)

func (a *app) up() *cobra.Command {
	var noMesh, foreground bool
	var wait time.Duration
	opts := api.Options{}
	cmd := &cobra.Command{
		Use:   "up FILE|DIR…",
		Short: "Bring a lab up with the objects of these manifests, in place of the one there is",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Name, opts.Mesh = a.name, !noMesh
			files, err := readManifests(cmd.ErrOrStderr(), args)
			if err != nil {
				return err
			}
			if err := checkOptions(&opts); err != nil {
				return err
			}
			l, err := a.layout()
			if err != nil {
				return err
			}
			if foreground && opts.Owner == 0 {
				opts.Owner = os.Getpid()
			}
			err = bringUp(cmd.Context(), l, opts, files, wait)
			if err != nil && errors.Is(cmd.Context().Err(), context.Canceled) {
				return errors.Join(err, takeDown(l))
			}
			if err != nil || !foreground {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "lab is up; Ctrl-C brings it down")
			<-cmd.Context().Done()
			return takeDown(l)
		},
	}
	f := cmd.Flags()
	f.IntVar(&opts.Nodes, "nodes", 2, "how many nodes")
	f.BoolVar(&noMesh, "no-mesh", false, "run the same pods bare: no controller, no agents")
	f.StringVar(&opts.Bin, "bin", "", "directory of agent and controller, first in the pods' PATH (default: where lab is)")
	f.StringArrayVar(&opts.AgentArgs, "agent-arg", nil, "one more argument for every agent (repeatable)")
	f.StringArrayVar(&opts.ControllerArgs, "controller-arg", nil, "one more argument for the controller (repeatable)")
	f.IntVar(&opts.Owner, "owner", 0, "bring the lab down when the process with this pid ends")
	f.DurationVar(&wait, "wait", slow.Times(time.Minute), "how long to wait until every pod is ready")
	f.BoolVar(&foreground, "foreground", false, "stay, and bring the lab down at the end")
	return cmd
}

func readManifests(stderr io.Writer, paths []string) ([]manifest.File, error) {
	files, err := manifest.Read(paths...)
	if err != nil {
		return nil, err
	}
	_, warnings, err := manifest.Parse(files)
	for _, w := range warnings {
		fmt.Fprintln(stderr, "warning:", w)
	}
	return files, err
}

// checkOptions checks early what would otherwise fail late.
func checkOptions(o *api.Options) (err error) {
	if err := needRoot(); err != nil {
		return err
	}
	if o.Nodes < 1 || o.Nodes > layout.MaxNodes {
		return fmt.Errorf("--nodes %d: want 1 to %d", o.Nodes, layout.MaxNodes)
	}
	if o.Bin == "" {
		if o.Bin, err = ownDir(); err != nil {
			return err
		}
	}
	if o.Bin, err = filepath.Abs(o.Bin); err != nil {
		return err
	}
	for _, name := range []string{"controller", "agent"} {
		if _, err := os.Stat(filepath.Join(o.Bin, name)); o.Mesh && err != nil {
			return fmt.Errorf("the mesh needs %s: run `make build`, or name its directory with --bin, or use --no-mesh: %w", name, err)
		}
	}
	return fabric.CheckTools()
}

// bringUp removes an existing lab, starts a supervisor, and applies files.
func bringUp(ctx context.Context, l layout.Layout, opts api.Options, files []manifest.File, wait time.Duration) error {
	if err := takeDown(l); err != nil {
		return fmt.Errorf("clear the lab that is there: %w", err)
	}
	if err := startSupervisor(ctx, l, opts); err != nil {
		return errors.Join(err, takeDown(l))
	}
	client := api.NewClient(l.Socket())
	_, err := client.Apply(ctx, api.Files{Files: files})
	if err == nil {
		err = client.Wait(ctx, api.Wait{Timeout: wait})
	}
	if err != nil {
		return fmt.Errorf("%w\nthe lab is left up to look inside: `lab pods`, `lab logs`, `lab down`", err)
	}
	return nil
}

func startSupervisor(ctx context.Context, l layout.Layout, opts api.Options) error {
	if err := os.MkdirAll(l.StateDir(), 0o755); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	log, err := os.OpenFile(l.Log(), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	text, err := json.Marshal(opts)
	if err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", "supervise", string(text))
	cmd.Args[0] = "lab"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	client := api.NewClient(l.Socket())
	for {
		if _, err := client.State(ctx); err == nil {
			return nil
		}
		select {
		case err := <-ended:
			tail, _ := io.ReadAll(io.NewSectionReader(log, 0, 64<<10)) // works even if the file has been removed
			return fmt.Errorf("the lab does not come up: %w\n%s", err, strings.TrimSpace(string(tail)))
		case <-ctx.Done():
			return fmt.Errorf("the lab does not come up: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// supervise makes the command that `up` starts in the background.
func (a *app) supervise() *cobra.Command {
	return &cobra.Command{
		Use:    "supervise OPTIONS",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var opts api.Options
			if err := json.Unmarshal([]byte(args[0]), &opts); err != nil {
				return fmt.Errorf("options: %w", err)
			}
			return supervisor.Run(cmd.Context(), slog.New(slog.NewTextHandler(os.Stderr, nil)), opts)
		},
	}
}

func (a *app) down() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Bring the lab down and clear everything of it, even after a crash",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			l, err := a.layout()
			if err != nil {
				return err
			}
			if err := needRoot(); err != nil {
				return err
			}
			return takeDown(l)
		},
	}
}

// takeDown ends the lab if it runs and removes what is left of it. It also works
// if the supervisor hangs or is gone.
func takeDown(l layout.Layout) error {
	if pid := host.Owner(l.LockFile()); pid != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		api.NewClient(l.Socket()).Shutdown(ctx) // on an error it is killed below
		for ctx.Err() == nil && host.Alive(pid) {
			time.Sleep(5 * time.Millisecond)
		}
		if err := host.KillOwner(l.LockFile(), 10*time.Second); err != nil {
			return err
		}
	}
	os.Remove(l.LockFile())
	return host.Clear(l)
}
