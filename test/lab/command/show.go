package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/lab/api"
)

func (a *app) pods() *cobra.Command {
	return a.show("pods", "List the pods of all namespaces", func(w io.Writer, s api.State) {
		fmt.Fprintln(w, "NAMESPACE\tNAME\tNODE\tIP\tIP6\tREADY\tSTATUS\tRESTARTS")
		for _, p := range s.Pods {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%t\t%s\t%d\n", p.Namespace, p.Name, p.Node, p.IP(), p.IP6(), p.Ready, p.Status, p.Restarts)
		}
	})
}

func (a *app) nodes() *cobra.Command {
	return a.show("nodes", "List the nodes and their agents", func(w io.Writer, s api.State) {
		fmt.Fprintln(w, "NODE\tIPS\tAGENT\tNETNS")
		for _, n := range s.Nodes {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", n.Name, joinAddrs(n.Addrs), describe(n.Agent), n.Netns)
		}
		fmt.Fprintf(w, "controller\t\t%s\t\n", describe(s.Controller))
	})
}

func (a *app) services() *cobra.Command {
	return a.show("services", "List the services and their ClusterIPs", func(w io.Writer, s api.State) {
		fmt.Fprintln(w, "NAMESPACE\tNAME\tCLUSTER-IPS")
		for _, svc := range s.Services {
			fmt.Fprintf(w, "%s\t%s\t%s\n", svc.Namespace, svc.Name, joinAddrs(svc.IPs))
		}
	})
}

// show makes a command that prints a table, or the whole state as JSON.
func (a *app) show(name, short string, table func(io.Writer, api.State)) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.state(cmd.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(s)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			table(w, s)
			return w.Flush()
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json: everything there is to know about the lab")
	return cmd
}

func describe(p api.Process) string {
	switch {
	case p.Pid != 0:
		return fmt.Sprintf("pid %d", p.Pid)
	case p.Exit != "":
		return "ended: " + p.Exit
	}
	return "none"
}

func joinAddrs(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	if out == nil {
		return "None"
	}
	return strings.Join(out, ",")
}

func (a *app) logs() *cobra.Command {
	var follow bool
	cmd := a.inNamespace(&cobra.Command{
		Use:   "logs POD|deploy/NAME|controller|NODE|lab",
		Short: "Print the log of a pod, the controller, a node's agent, or the lab itself",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.state(cmd.Context())
			if err != nil {
				return err
			}
			path, err := a.logOf(s, args[0])
			if err != nil {
				return err
			}
			return copyLog(cmd.Context(), cmd.OutOrStdout(), path, follow)
		},
	})
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on as it grows")
	return cmd
}

func (a *app) logOf(s api.State, ref string) (string, error) {
	p, err := a.findPod(s, ref)
	if err == nil {
		return p.Log, nil
	}
	switch ref {
	case "controller":
		return s.Controller.Log, nil
	case "lab":
		l, err := a.layout()
		return l.Log(), err
	}
	for _, n := range s.Nodes {
		if n.Name == ref {
			return n.Agent.Log, nil
		}
	}
	return "", err
}

// copyLog copies a file. With follow it also copies what is appended until ctx
// ends.
func copyLog(ctx context.Context, w io.Writer, path string, follow bool) error {
	f, err := os.Open(path)
	if os.IsNotExist(err) && !follow {
		return nil // nothing was logged
	}
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	for {
		if _, err := io.Copy(w, f); err != nil {
			return fmt.Errorf("copy log: %w", err)
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
		if _, err := os.Stat(path); err != nil {
			return nil // the pod is gone
		}
	}
}
