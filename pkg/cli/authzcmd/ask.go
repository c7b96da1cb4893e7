package authzcmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/render"
)

func (s *Source) explain() *cobra.Command {
	var q tapv1alpha1.AuthzExplainQuery
	var output string
	var grpc bool
	cmd := &cobra.Command{
		Use:   "explain --to RESOURCE [--from RESOURCE]",
		Short: "Say which policy decides about a call, and how",
		Long: `Say which policy decides about a call, and how. No call is made.

The agent of the server's node decides by the policies that are in force there. If it does not
answer, the controller decides by those that it sends; the output says which. Without --from the
client has no identity. Without --method and --path a connection is judged. The exit status is 0
if the call is allowed, 1 if it is not.`,
		Example: fmt.Sprintf("  %[1]s authz explain --from deploy/web --to deploy/billing -n shop --method POST --path /charge", s.Program),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if output != "" && output != "json" {
				return fmt.Errorf("output format %q: use json", output)
			}
			if q.To == "" {
				return errors.New("--to: which workload, pod or Service is called?")
			}
			if q.Namespace, err = s.namespace(q.Namespace); err != nil {
				return err
			}
			if q.Namespace == "" {
				q.Namespace = "default"
			}
			if _, err := filter.ParseResource(q.To, q.Namespace); err != nil {
				return err
			}
			if grpc && q.Method == "" {
				q.Method = "POST"
			}
			if grpc {
				q.Headers = append(q.Headers, "content-type=application/grpc")
			}
			if _, err := tapv1alpha1.ParseAuthzExplain(q.Values()); err != nil {
				return err
			}
			e, err := s.Explain(cmd.Context(), q)
			if err != nil {
				return err
			}
			if output == "json" {
				err = writeJSON(cmd.OutOrStdout(), e)
			} else {
				err = writeExplanation(cmd.OutOrStdout(), e)
			}
			if err == nil && !e.Allowed {
				err = cli.ErrSilent
			}
			return err
		},
	}
	p := cmd.Flags()
	s.addNamespace(cmd, &q.Namespace)
	p.StringVar(&q.From, "from", "", "the client: a workload or a pod (default: one without an identity)")
	p.StringVar(&q.FromNamespace, "from-namespace", "", "its namespace (default that of --to)")
	p.StringVar(&q.To, "to", "", "the server: a workload, a pod or a Service")
	p.Uint16Var(&q.Port, "port", 0, "port of the pod, or of the Service (default: the only one that is known)")
	p.StringVar(&q.Method, "method", "", "HTTP method of the request")
	p.StringVar(&q.Path, "path", "", "path of the request")
	p.StringVar(&q.Authority, "authority", "", "authority of the request")
	p.BoolVar(&grpc, "grpc", false, "the request is a gRPC call, whose path is /SERVICE/METHOD")
	p.StringArrayVar(&q.Headers, "header", nil, "header field of the request, as NAME=VALUE (repeatable)")
	p.StringVar(&q.Claims, "claims", "", "claims of the request's token, as an object of JSON (default: there is no token)")
	p.StringVarP(&output, "output", "o", "", "json")
	return cmd
}

func writeExplanation(w io.Writer, e *tapv1alpha1.AuthzExplanation) error {
	var b strings.Builder
	mark := "√"
	if !e.Allowed {
		mark = "×"
	}
	what := e.Request
	if what == "" {
		what = "a connection"
	}
	fmt.Fprintf(&b, "%s → %s, port %d: %s\n", e.From, e.To, e.Port, what)
	if e.Client != "" {
		fmt.Fprintf(&b, "  client identity: %s\n", e.Client)
	}
	fmt.Fprintf(&b, "%s %s\n", mark, e.Conclusion)
	for _, l := range e.Limits {
		fmt.Fprintf(&b, "  limited by: %s\n", l)
	}
	for _, n := range e.Notes {
		fmt.Fprintf(&b, "  - %s\n", n)
	}
	fmt.Fprintf(&b, "  decided by: %s\n", e.DecidedBy)
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, render.Clean(strings.TrimSuffix(line, "\n"))); err != nil {
			return err
		}
	}
	return nil
}

func (s *Source) try() *cobra.Command {
	var namespace, file, output string
	cmd := &cobra.Command{
		Use:   "try -f FILE",
		Short: "Judge the calls of the last 15 minutes by policies that are not applied",
		Long: `Judge the calls of the last 15 minutes by policies that are not applied.

The policies in FILE replace those of the same names and are added to the others. Nothing is
applied. The exit status is 0 if no call would be denied that is allowed now, 1 if there are such
calls.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if output != "" && output != "json" {
				return fmt.Errorf("output format %q: use json", output)
			}
			if namespace, err = s.one(namespace); err != nil {
				return err
			}
			var manifest []byte
			switch file {
			case "":
				return errors.New("-f: which file? - is the standard input")
			case "-":
				manifest, err = io.ReadAll(cmd.InOrStdin())
			default:
				manifest, err = os.ReadFile(file)
			}
			if err != nil {
				return err
			}
			r, err := s.Try(cmd.Context(), namespace, manifest)
			if err != nil {
				return err
			}
			warn(cmd, r.Warnings)
			if output == "json" {
				err = writeJSON(cmd.OutOrStdout(), r)
			} else {
				err = writeTry(cmd.OutOrStdout(), r)
			}
			if err == nil && r.Lost > 0 {
				err = cli.ErrSilent
			}
			return err
		},
	}
	s.addNamespace(cmd, &namespace)
	cmd.Flags().StringVarP(&file, "filename", "f", "", "file with the policies; - is the standard input")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json")
	return cmd
}

// one returns the namespace of the user, which must be one.
func (s *Source) one(named string) (string, error) {
	namespace, err := s.namespace(named)
	if err == nil && namespace == "" {
		namespace = "default"
	}
	return namespace, err
}

func writeTry(w io.Writer, r *tapv1alpha1.AuthzTry) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d policies, %d calls: %d allowed and %d denied as before, %d would be denied, %d would be allowed\n",
		r.Objects, r.Calls, r.Allowed, r.Denied, r.Lost, r.Won)
	if r.Unsure > 0 {
		fmt.Fprintf(&b, "? %d calls are unsure: a rule looks at what is not recorded of them\n", r.Unsure)
	}
	var domains trustDomains
	for i := range r.Changes {
		domains.add(&r.Changes[i].AuthzRow)
	}
	for i := range r.Changes {
		c := &r.Changes[i]
		mark, verb, by := "×", "would be denied", c.ThenBy
		if !c.NowAllowed {
			mark, verb = "√", "would be allowed"
		}
		unsure := ""
		if c.Unsure {
			unsure = " (unsure)"
		}
		fmt.Fprintf(&b, "%s %s → %s/%s port %d: %s (%d calls) %s by %s; now by %s%s\n",
			mark, domains.client(&c.AuthzRow), short(c.Kind), c.Name, c.Port, request(&c.AuthzRow), c.Calls, verb, by, c.NowBy, unsure)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "‼ not understood, and closed: %s\n", p)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, render.Clean(strings.TrimSuffix(line, "\n"))); err != nil {
			return err
		}
	}
	return nil
}

func (s *Source) suggest() *cobra.Command {
	var namespace, lang string
	cmd := &cobra.Command{
		Use:   "suggest",
		Short: "Write the policies that the calls of the last 15 minutes need",
		Long: `Write the policies that the calls of the last 15 minutes need, as YAML.

They allow what was called, and nothing else but what the notes say. A call that is made once a
day is not in the last 15 minutes: read what is written before it is applied. Workloads with the
annotation underlane.io/policy: audit, or with policies, have ports and requests recorded.`,
		Example: fmt.Sprintf("  %[1]s authz suggest -n shop > policy.yaml\n  %[1]s authz try -n shop -f policy.yaml", s.Program),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if namespace, err = s.one(namespace); err != nil {
				return err
			}
			r, err := s.Suggest(cmd.Context(), namespace, lang)
			if err != nil {
				return err
			}
			warn(cmd, r.Warnings)
			for _, n := range r.Notes {
				fmt.Fprintf(cmd.ErrOrStderr(), "- %s\n", render.Clean(n))
			}
			if r.Manifest == "" {
				return errors.New("no call is recorded of which a policy can be made")
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "# Made of %d calls of the last 15 minutes.\n%s", r.Calls, r.Manifest)
			return err
		},
	}
	s.addNamespace(cmd, &namespace)
	cmd.Flags().StringVar(&lang, "lang", tapv1alpha1.LangOwn, "language of the policies: own (policy.underlane.io), linkerd or istio")
	return cmd
}
