package statcmd

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/render"
)

// Connections is the command connections.
func Connections(s *Source) *cobra.Command {
	var namespace, output string
	var all bool
	q := tapv1alpha1.ConnectionsQuery{}
	short := fmt.Sprintf("Show the open TCP connections of pods of %s", s.Scope)
	cmd := &cobra.Command{
		Use:   "connections [flags] [RESOURCE]",
		Short: short,
		Long: short + `, proxied or not, the oldest first.

RESOURCE is TYPE/NAME or TYPE: deploy, sts, ds, rs, rc, job, cronjob, pod, ns or svc. It is
either end of a connection, or the Service that was called. Requests share connections, so
each side of an agent that carries requests has a row: PART says which one it is.`,
		Example: fmt.Sprintf("  %[1]s connections -n shop\n  %[1]s connections deploy/web -o json", s.Program),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := flags{namespace: namespace, output: output, all: all}
			var err error
			if q.Namespace, err = f.check(s); err != nil {
				return err
			}
			if len(args) > 0 {
				r, err := filter.ParseResource(args[0], "")
				if err != nil {
					return err
				}
				q.Kind, q.Name = string(r.Kind), r.Name
				if r.Kind == filter.KindNamespace {
					q.Namespace = r.Name
				}
			}
			if q.Limit < 1 || q.Limit > tapv1alpha1.MaxConnections {
				return errors.New("--limit: want a number from 1 to " + fmt.Sprint(tapv1alpha1.MaxConnections))
			}
			list, err := s.Connections(cmd.Context(), q)
			if err != nil {
				return err
			}
			warn(cmd, list.Warnings)
			switch {
			case output == "json":
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(list)
			case len(list.Items) == 0:
				return nothing(cmd.ErrOrStderr(), "No open connections found.")
			}
			return writeConnections(cmd.OutOrStdout(), list, output == "wide")
		},
	}
	p := cmd.Flags()
	named := "any"
	if s.Namespace != nil {
		named = "that of the kubeconfig's context"
	}
	p.StringVarP(&namespace, "namespace", "n", "", "namespace of either end (default "+named+")")
	p.BoolVarP(&all, "all-namespaces", "A", false, "connections of all namespaces")
	p.StringVarP(&output, "output", "o", "table", "table, wide or json")
	p.StringVar(&q.Node, "node", "", "only connections that the agent of this node carries")
	p.IntVar(&q.Limit, "limit", tapv1alpha1.DefaultConnections, "most connections to show")
	return cmd
}

func writeConnections(out io.Writer, list *tapv1alpha1.ConnectionList, wide bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	head := "AGE\tSRC\tDST\tPART\tPROTOCOL\tSECURED\tSRTT\tRETRANSMITS\tREAD_BYTES\tWRITE_BYTES"
	if wide {
		head += "\tMIN_RTT\tSRC_ADDRESS\tDST_ADDRESS\tNODE\tWHY"
	}
	fmt.Fprintln(w, head)
	for i := range list.Items {
		c := &list.Items[i]
		age, srtt := "-", "-"
		if c.Since != nil {
			age = list.Time.Sub(*c.Since).Truncate(time.Second).String()
		}
		if c.SRTT > 0 {
			srtt = fmt.Sprintf("%.2fms", c.SRTT)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d", age, endText(&c.Source), endText(&c.Destination), cmp.Or(render.Clean(c.Part), "-"),
			render.Clean(c.Protocol), render.Clean(c.Secured), srtt, c.Retransmits, c.ReadBytes, c.WriteBytes)
		if wide {
			minRTT := "-"
			if c.MinRTT > 0 {
				minRTT = fmt.Sprintf("%.2fms", c.MinRTT)
			}
			fmt.Fprintf(w, "\t%s\t%s\t%s\t%s\t%s", minRTT, c.SourceAddress, c.DestinationAddress, render.Clean(c.Node), cmp.Or(c.SecuredWhy, "-"))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// endText names an end: its pod, or what it is if no pod is known.
func endText(e *tapv1alpha1.ConnectionEnd) string {
	switch {
	case e.Pod != "":
		return render.Clean(e.Namespace + "/" + e.Pod)
	case e.Namespace != "":
		return render.Clean(e.Namespace + "/" + e.Name)
	}
	return render.Clean(cmp.Or(e.Name, "(outside)"))
}
