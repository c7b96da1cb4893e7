// Package whycmd has the command why for one node and for a cluster. The two differ only in
// who answers.
package whycmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/tap/render"
	"github.com/underlane/underlane/pkg/why"
)

// Source is who answers.
type Source struct {
	Program string // name of the program in examples: agent, underlane
	// Namespace returns the namespace for the user's -n, which may be "". nil: -n must be given.
	Namespace func(named string) (string, error)
	// Ask answers a question; with q.Try it makes a connection. Its errors are for users.
	Ask func(ctx context.Context, q tapv1alpha1.WhyQuery) (*tapv1alpha1.WhyReport, error)
}

// Command is the command why.
func Command(s *Source) *cobra.Command {
	var q tapv1alpha1.WhyQuery
	var output, protocol string
	var try bool
	cmd := &cobra.Command{
		Use:   "why FROM TO",
		Short: "Say whether a call from FROM to TO should work, and why",
		Long: `Say whether a call from FROM to TO should work, and why.

FROM is a workload or a pod: deploy/web, sts/db, pod/web-5d4f. TO is a Service, a workload
or a pod, with a port: svc/web:80, web:80 and web.shop:80 are Services, deploy/web:8080 and
pod/web-5d4f:8080 are pods. A Service with one port needs none. The exit status is 0 if the
call should work, 1 if it should not.`,
		Example: fmt.Sprintf("  %[1]s why deploy/web svc/voting:80 -n shop\n  %[1]s why deploy/web voting.other:80 --method POST --path /vote\n  %[1]s why pod/web-5d4f svc/db:5432 --try --protocol tcp", s.Program),
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("output format %q: use json", output)
			}
			switch protocol {
			case tapv1alpha1.TryHTTP, tapv1alpha1.TryHTTP2, tapv1alpha1.TryTLS, tapv1alpha1.TryTCP:
			default:
				return fmt.Errorf("--protocol %q: use http, http2, tls or tcp", protocol)
			}
			if try {
				q.Try = protocol
			}
			if err := s.read(&q, args); err != nil {
				return err
			}
			report, err := s.Ask(cmd.Context(), q)
			if err != nil {
				return err
			}
			if err := write(cmd.OutOrStdout(), report, output); err != nil {
				return err
			}
			if !report.Works {
				return cli.ErrSilent
			}
			return nil
		},
	}
	p := cmd.Flags()
	namespace := "that of the kubeconfig's context"
	if s.Namespace == nil {
		namespace = "default"
	}
	p.StringVarP(&q.Namespace, "namespace", "n", "", "namespace of FROM (default "+namespace+")")
	p.StringVar(&q.ToNamespace, "to-namespace", "", "namespace of TO (default that of FROM)")
	p.StringVar(&q.Method, "method", "", "HTTP method of the request (default GET)")
	p.StringVar(&q.Path, "path", "", "path of the request (default /)")
	p.StringVar(&q.Authority, "authority", "", "authority of the request, and server name of TLS (default that of TO)")
	p.BoolVar(&q.GRPC, "grpc", false, "the request is a gRPC call, whose path is /SERVICE/METHOD")
	p.StringArrayVar(&q.Headers, "header", nil, "header field of the request, as NAME=VALUE (repeatable)")
	p.BoolVar(&try, "try", false, "make one connection in the name of a pod of FROM")
	p.StringVar(&protocol, "protocol", tapv1alpha1.TryHTTP, "what to try: http, which is HTTP/2 where the port is known to speak it, http2, tls or tcp")
	p.StringVarP(&output, "output", "o", "", "json")
	return cmd
}

// read completes q by the arguments.
func (s *Source) read(q *tapv1alpha1.WhyQuery, args []string) (err error) {
	if q.From = args[0]; !strings.Contains(q.From, "/") {
		q.From = "pod/" + q.From
	}
	switch {
	case s.Namespace != nil:
		if q.Namespace, err = s.Namespace(q.Namespace); err != nil {
			return err
		}
	case q.Namespace == "":
		q.Namespace = "default"
	}
	to := args[1]
	if host, port, err := net.SplitHostPort(to); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("%s: %q is no port number", to, port)
		}
		to, q.Port = host, uint16(n)
	}
	if !strings.Contains(to, "/") { // the name of a Service, as a client knows it
		name, namespace, qualified := strings.Cut(to, ".")
		if qualified {
			namespace, _, _ = strings.Cut(namespace, ".")
			if q.ToNamespace != "" && q.ToNamespace != namespace {
				return errors.New("--to-namespace: TO names another namespace")
			}
			q.ToNamespace = namespace
		}
		to = "svc/" + name
	}
	q.To = to
	_, _, err = why.Resources(q)
	return err
}

var marks = map[string]string{tapv1alpha1.WhyOK: "√", tapv1alpha1.WhyWarning: "‼", tapv1alpha1.WhyProblem: "×", tapv1alpha1.WhyUnknown: "?"}

func write(w io.Writer, r *tapv1alpha1.WhyReport, output string) error {
	if output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	var b strings.Builder
	for i, s := range r.Steps {
		fmt.Fprintf(&b, "%d. %s %s\n", i+1, marks[s.Result], render.Clean(s.Text))
		for _, line := range s.Evidence {
			fmt.Fprintf(&b, "     - %s\n", render.Clean(line))
		}
	}
	fmt.Fprintf(&b, "\n%s\n", render.Clean(r.Conclusion))
	_, err := io.WriteString(w, b.String())
	return err
}
