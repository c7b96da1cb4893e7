package command

import (
	"context"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/agentapi"
	"github.com/underlane/underlane/pkg/cli/authzcmd"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/controller/whatif"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/rehearse"
)

// authz is the command authz. What the controller does in a cluster is done here, with the
// manifests that the lab's controller reads.
func (a *app) authz() *cobra.Command {
	return authzcmd.Command(&authzcmd.Source{
		Program: "lab", Scope: "all nodes",
		List: func(ctx context.Context, q tapv1alpha1.AuthzQuery) (*tapv1alpha1.AuthzList, error) {
			return asked(a, ctx, func(agents *agentapi.API) (*tapv1alpha1.AuthzList, error) { return agents.Authz(ctx, q) })
		},
		Explain: func(ctx context.Context, q tapv1alpha1.AuthzExplainQuery) (*tapv1alpha1.AuthzExplanation, error) {
			return asked(a, ctx, func(agents *agentapi.API) (*tapv1alpha1.AuthzExplanation, error) { return agents.ExplainAuthz(ctx, q) })
		},
		Try: func(ctx context.Context, namespace string, manifest []byte) (*tapv1alpha1.AuthzTry, error) {
			return asked(a, ctx, func(agents *agentapi.API) (*tapv1alpha1.AuthzTry, error) {
				s, err := a.whatif()
				if err != nil {
					return nil, err
				}
				calls, nodes, warnings, notes, err := recorded(ctx, agents, namespace)
				if err != nil {
					return nil, err
				}
				out, err := s.Try(manifest, namespace, calls)
				if err != nil {
					return nil, err
				}
				out.Nodes, out.Warnings, out.Notes = nodes, warnings, append(out.Notes, notes...)
				return out, nil
			})
		},
		Suggest: func(ctx context.Context, namespace, lang string) (*tapv1alpha1.AuthzSuggestion, error) {
			return asked(a, ctx, func(agents *agentapi.API) (*tapv1alpha1.AuthzSuggestion, error) {
				s, err := a.whatif()
				if err != nil {
					return nil, err
				}
				calls, nodes, warnings, notes, err := recorded(ctx, agents, namespace)
				if err != nil {
					return nil, err
				}
				out, err := s.Suggest(lang, calls)
				if err != nil {
					return nil, err
				}
				out.Nodes, out.Warnings, out.Notes = nodes, warnings, append(out.Notes, notes...)
				return out, nil
			})
		},
	})
}

func asked[A any](a *app, ctx context.Context, ask func(*agentapi.API) (A, error)) (answer A, err error) {
	agents, done, err := a.agents(ctx)
	if err != nil {
		return answer, err
	}
	defer done()
	return ask(agents)
}

// whatif reads the controller's manifests.
func (a *app) whatif() (*whatif.State, error) {
	l, err := a.layout()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(l.Manifests(), "[^.]*")) // not the supervisor's own
	if err != nil {
		return nil, err
	}
	var all []byte
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(append(all, data...), "\n---\n"...)
	}
	objects, err := watch.Decode(all)
	if err != nil {
		return nil, err
	}
	return &whatif.State{Objects: objects, Config: translate.Config{TrustDomain: mesh.DefaultTrustDomain}}, nil
}

// recorded returns what the agents remember of the calls to pods of a namespace.
func recorded(ctx context.Context, agents *agentapi.API, namespace string) (*rehearse.Calls, tapv1alpha1.Nodes, []string, []string, error) {
	answers, nodes, warnings, err := agents.JudgedCalls(ctx, namespace, "", tapv1alpha1.AuthzWindow)
	if err != nil {
		return nil, nodes, nil, nil, err
	}
	figures, err := agents.Figures(ctx, rehearse.FiguresQuery(namespace))
	if err != nil {
		return nil, nodes, nil, nil, err
	}
	calls, notes := rehearse.Collect(answers, figures, namespace)
	return calls, nodes, warnings, notes, nil
}
