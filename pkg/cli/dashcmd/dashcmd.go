// Package dashcmd has the command dashboard for one node, a cluster and a lab. They differ
// only in who answers.
package dashcmd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/dashboard"
)

// DefaultPort is the port of Linkerd's dashboard, too.
const DefaultPort = 50750

// What --show may be.
const (
	showBrowser = "browser"
	showURL     = "url"
)

// Source is who answers.
type Source struct {
	Program string // name of the program in examples: agent, underlane
	Scope   string // in help texts: this node, the cluster
	// Long has more for the help text. It may be "".
	Long string
	// Browser opens a browser unless the user says otherwise. Programs that are run as
	// root on a server leave it false.
	Browser bool
	// Open returns what the dashboard shows, and what releases it. Its errors are written
	// for users.
	Open func(ctx context.Context) (dashboard.Config, func(), error)
}

// Dashboard is the command dashboard. It serves until its context ends.
func Dashboard(s *Source) *cobra.Command {
	var address, show string
	var port uint16
	short := fmt.Sprintf("Serve the dashboard of %s on this machine's loopback", s.Scope)
	cmd := &cobra.Command{
		Use:   "dashboard",
		Short: short,
		Long: short + `, until Ctrl-C.

It has no password: whoever can open a connection to this machine's loopback sees what you
see. It reads only.` + s.Long,
		Example: fmt.Sprintf("  %[1]s dashboard\n  %[1]s dashboard --port 0 --show url", s.Program),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if show != showBrowser && show != showURL {
				return fmt.Errorf("--show %q: use %s or %s", show, showBrowser, showURL)
			}
			ip, err := netip.ParseAddr(address)
			if err != nil || !ip.Unmap().IsLoopback() {
				return fmt.Errorf("--address %q: the dashboard has no password: use an address of loopback (127.0.0.1, ::1); from another machine: ssh -L %d:127.0.0.1:%[2]d HOST", address, DefaultPort)
			}
			config, done, err := s.Open(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			config.About.Version = version.Version
			listener, err := listen(cmd, ip, port)
			if err != nil {
				return err
			}
			url := "http://" + listener.Addr().String()
			fmt.Fprintf(cmd.OutOrStdout(), "The dashboard of %s, until Ctrl-C:\n%s\n", config.About.Where, url)
			if show == showBrowser {
				if err := openBrowser(url); err != nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "No browser was opened (%v): open the address yourself.\n", err)
				}
			}
			return dashboard.Serve(cmd.Context(), listener, config)
		},
	}
	fallback := showURL
	if s.Browser {
		fallback = showBrowser
	}
	p := cmd.Flags()
	p.Uint16VarP(&port, "port", "p", DefaultPort, "port to serve at; 0 is any free one")
	p.StringVar(&address, "address", "127.0.0.1", "address of loopback to serve at")
	p.StringVar(&show, "show", fallback, "browser: open one; url: only print the address")
	return cmd
}

// listen listens at port. If the user has not named it and it is in use, perhaps by
// another dashboard, listen takes another one.
func listen(cmd *cobra.Command, ip netip.Addr, port uint16) (net.Listener, error) {
	var config net.ListenConfig
	at := netip.AddrPortFrom(ip, port)
	l, err := config.Listen(cmd.Context(), "tcp", at.String())
	if cli.InUse(err) && !cmd.Flags().Changed("port") {
		fmt.Fprintf(cmd.ErrOrStderr(), "Port %d is in use, perhaps by another dashboard: another one is taken.\n", port)
		l, err = config.Listen(cmd.Context(), "tcp", netip.AddrPortFrom(ip, 0).String())
	}
	switch {
	case cli.InUse(err):
		return nil, fmt.Errorf("port %s is in use, perhaps by another dashboard: end that one, or give --port 0", strconv.Itoa(int(port)))
	case err != nil:
		return nil, fmt.Errorf("serve at %s: %w", at, err)
	}
	return l, nil
}
