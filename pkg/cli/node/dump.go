package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
)

// DumpCommand is `agent dump`: the agent's maps and state as JSON.
func DumpCommand(f *Flags) *cobra.Command {
	return &cobra.Command{
		Use:   "dump",
		Short: "Print the agent's BPF maps and state as JSON",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, done, err := f.dial()
			if err != nil {
				return err
			}
			defer done()
			d, err := client.Dump(cmd.Context(), &agentv1.DumpRequest{})
			if err != nil {
				return f.explain(err)
			}
			var out bytes.Buffer
			if err := json.Indent(&out, d.GetJson(), "", "  "); err != nil {
				return fmt.Errorf("the agent's dump is not JSON: %w", err)
			}
			out.WriteByte('\n')
			_, err = out.WriteTo(cmd.OutOrStdout())
			return err
		},
	}
}

// CleanupCommand is `agent cleanup`. It removes every kernel object of this node's
// agent. It refuses while an agent runs.
func CleanupCommand(f *Flags, k Kernel) *cobra.Command {
	return &cobra.Command{
		Use:   "cleanup",
		Short: "Detach and unpin everything Underlane left in this node's kernel",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if k.Cleanup == nil {
				return errors.New("this build cannot clean up")
			}
			if _, err := f.status(cmd.Context()); err == nil {
				return fmt.Errorf("an agent is running on %s: stop it first", f.Socket)
			}
			removed, err := k.Cleanup(cmd.Context(), f)
			for _, what := range removed {
				fmt.Fprintln(cmd.OutOrStdout(), "removed", what)
			}
			if err != nil {
				return fmt.Errorf("clean up %s: %w", f.PinRoot, err)
			}
			if len(removed) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing to remove under", f.PinRoot)
			}
			return nil
		},
	}
}
