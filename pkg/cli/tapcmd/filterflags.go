package tapcmd

import (
	"strings"

	"github.com/spf13/cobra"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
)

// resourceHelp is the help text on resources for tap and top.
func (s *Source) resourceHelp() string {
	text := `RESOURCE is TYPE/NAME, TYPE NAME or TYPE: deploy/web, sts, ns/shop, pod/web-5d4f,
svc/web. Traffic into and out of it is shown; with --to, only from it to that
resource.`
	if !s.NeedsTarget {
		text += " Without RESOURCE all traffic of " + s.Scope + "'s pods is shown."
	}
	return text
}

// filterFlags are the flags that select traffic, with Linkerd's names.
type filterFlags struct {
	namespace, to, toNamespace      string
	scheme, method, authority, path string
	selector                        string
	maxRPS                          float64
}

func (f *filterFlags) add(cmd *cobra.Command, s *Source, maxRPS float64) {
	p := cmd.Flags()
	namespace := "any"
	if s.Namespace != nil {
		namespace = "that of the kubeconfig's context"
	}
	p.StringVarP(&f.namespace, "namespace", "n", "", "namespace of RESOURCE (default "+namespace+")")
	p.StringVar(&f.to, "to", "", "show only traffic to this resource")
	p.StringVar(&f.toNamespace, "to-namespace", "", "namespace of the --to resource (default that of RESOURCE)")
	p.StringVar(&f.scheme, "scheme", "", "show only requests with this scheme")
	p.StringVar(&f.method, "method", "", "show only requests with this HTTP method")
	p.StringVar(&f.authority, "authority", "", "show only requests with this :authority, and TLS connections with this server name")
	p.StringVar(&f.path, "path", "", "show only requests whose path starts with this")
	p.Float64Var(&f.maxRPS, "max-rps", maxRPS, "most requests per second to show, 0 for no limit")
	p.StringVarP(&f.selector, "selector", "l", "", "show only pods of RESOURCE with these labels, as kubectl takes them: app=web,tier!=db")
	if s.Flags != nil {
		s.Flags(p)
	}
}

// request builds the request from the flags and the arguments. As in Linkerd, a
// --to resource is in the namespace of RESOURCE, unless --to-namespace is given or
// the resource is a namespace.
func (f *filterFlags) request(args []string) *agentv1.TapRequest {
	toNamespace := f.toNamespace
	if toNamespace == "" && f.to != "" && !isNamespace([]string{f.to}) {
		toNamespace = f.namespace
	}
	return &agentv1.TapRequest{
		Target: strings.Join(args, "/"), Namespace: f.namespace, To: f.to, ToNamespace: toNamespace,
		Scheme: f.scheme, Method: f.method, Authority: f.authority, Path: f.path, MaxRps: f.maxRPS, Selector: f.selector,
	}
}

// isNamespace reports whether the resource is a namespace.
func isNamespace(args []string) bool {
	kind, _, _ := strings.Cut(strings.Join(args, "/"), "/")
	return strings.HasPrefix(strings.ToLower(kind), "n")
}
