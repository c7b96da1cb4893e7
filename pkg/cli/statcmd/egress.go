package statcmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/pkg/figures/table"
)

// Egress is the command egress: what leaves the mesh.
func Egress(s *Source) *cobra.Command {
	cmd := &cobra.Command{Use: "egress", Short: fmt.Sprintf("Show what workloads of %s send outside the mesh, and suggest rules for it", s.Scope)}
	cmd.AddCommand(egressStat(s), egressSuggest(s))
	return cmd
}

func egressStat(s *Source) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "stat [flags]",
		Short: "Show destinations outside the mesh, by name",
		Long: `Show destinations outside the mesh, by name.

The name is that of the request's Host or :authority, or of the server name (SNI) of TLS.
The client writes both: they say what it asked for. HOST:PORT is a destination that the client
has not named, and whose address its resolver has given it for this host. Otherwise the
address is shown.
DENIED are requests that an EgressNetwork has refused; refused connections are among FAILED.`,
		Example: fmt.Sprintf("  %[1]s egress stat -n shop\n  %[1]s egress stat -A -t 5m -o json", s.Program),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, err := s.egress(cmd, &f)
			switch {
			case err != nil:
				return err
			case f.output == "json":
				return table.WriteEgressJSON(cmd.OutOrStdout(), rows)
			case len(rows) == 0:
				return nothing(cmd.ErrOrStderr(), "Nothing was sent outside the mesh.")
			}
			return table.WriteEgress(cmd.OutOrStdout(), rows)
		},
	}
	f.add(cmd, s)
	return cmd
}

func egressSuggest(s *Source) *cobra.Command {
	var f flags
	var denied bool
	cmd := &cobra.Command{
		Use:   "suggest [flags]",
		Short: "Print the EgressNetworks and routes that allow what was sent outside, and nothing else",
		Long: `Print the EgressNetworks and routes that allow what was sent outside, and nothing else.

What was not sent in the time that is looked at is refused by them: read the list before you
apply it. Names that clients have made up are in it as well.`,
		Example: fmt.Sprintf("  %[1]s egress suggest -n shop -t 15m > egress.yaml", s.Program),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, err := s.egress(cmd, &f)
			if err != nil {
				return err
			}
			if len(rows) == 0 {
				return nothing(cmd.ErrOrStderr(), "Nothing was sent outside the mesh.")
			}
			return table.SuggestEgress(cmd.OutOrStdout(), rows, denied)
		},
	}
	f.add(cmd, s)
	_ = cmd.Flags().MarkHidden("output")
	cmd.Flags().BoolVar(&denied, "denied", false, "allow what was refused, too")
	return cmd
}

func (s *Source) egress(cmd *cobra.Command, f *flags) ([]table.EgressRow, error) {
	namespace, err := f.check(s)
	if err != nil {
		return nil, err
	}
	q := table.EgressQuery(namespace)
	q.Window = f.window
	figures, warnings, err := s.ask(cmd.Context(), q)
	if err != nil {
		return nil, err
	}
	warn(cmd, warnings)
	return table.EgressRows(figures), nil
}
