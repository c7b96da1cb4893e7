package node

import (
	"context"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/authzcmd"
)

// AuthzCommand is `agent authz`: what the policies of this node's pods have decided.
func AuthzCommand(f *Flags) *cobra.Command {
	return authzcmd.Command(&authzcmd.Source{Program: "agent", Scope: "this node", List: f.authzList, Explain: f.authzExplain})
}

func (f *Flags) authzList(ctx context.Context, q tapv1alpha1.AuthzQuery) (*tapv1alpha1.AuthzList, error) {
	api, done, err := f.api()
	if err != nil {
		return nil, err
	}
	defer done()
	return api.Authz(ctx, q)
}

func (f *Flags) authzExplain(ctx context.Context, q tapv1alpha1.AuthzExplainQuery) (*tapv1alpha1.AuthzExplanation, error) {
	api, done, err := f.api()
	if err != nil {
		return nil, err
	}
	defer done()
	return api.ExplainAuthz(ctx, q)
}
