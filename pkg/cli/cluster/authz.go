package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/authzcmd"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// AuthzCommand is `underlane authz`.
func AuthzCommand(flags *Flags) *cobra.Command {
	api := flags.tapAPI()
	return authzcmd.Command(&authzcmd.Source{
		Program: "underlane", Scope: "the cluster", Namespace: flags.Namespace,
		List: api.authzList, Explain: api.authzExplain, Try: api.authzTry, Suggest: api.authzSuggest,
	})
}

func (a *tapAPI) authzList(ctx context.Context, q tapv1alpha1.AuthzQuery) (*tapv1alpha1.AuthzList, error) {
	list := &tapv1alpha1.AuthzList{}
	path := tapv1alpha1.AuthzPath(q.Namespace)
	q.Namespace = ""
	return list, a.getList(ctx, path, q.Values(), list)
}

func (a *tapAPI) authzSuggest(ctx context.Context, namespace, lang string) (*tapv1alpha1.AuthzSuggestion, error) {
	out := &tapv1alpha1.AuthzSuggestion{}
	return out, a.getList(ctx, tapv1alpha1.AuthzSuggestPath(namespace), url.Values{"lang": {lang}}, out)
}

func (a *tapAPI) authzExplain(ctx context.Context, q tapv1alpha1.AuthzExplainQuery) (*tapv1alpha1.AuthzExplanation, error) {
	to, err := filter.ParseResource(q.To, q.Namespace)
	if err != nil {
		return nil, err
	}
	client, err := a.rest()
	if err != nil {
		return nil, err
	}
	r := client.Get().AbsPath(tapv1alpha1.AuthzExplainPath(q.Namespace, string(to.Kind)+"s", to.Name))
	for name, values := range q.Values() {
		for _, value := range values {
			r = r.Param(name, value)
		}
	}
	out := &tapv1alpha1.AuthzExplanation{}
	result := r.Do(ctx)
	if err := result.Error(); err != nil {
		return nil, explain(err)
	}
	data, err := result.Raw()
	if err != nil {
		return nil, explain(err)
	}
	return out, unmarshal(data, out)
}

func (a *tapAPI) authzTry(ctx context.Context, namespace string, manifest []byte) (*tapv1alpha1.AuthzTry, error) {
	client, err := a.rest()
	if err != nil {
		return nil, err
	}
	result := client.Post().AbsPath(tapv1alpha1.AuthzPath(namespace)).SetHeader("Content-Type", "application/yaml").Body(manifest).Do(ctx)
	if err := result.Error(); err != nil {
		return nil, explain(err)
	}
	data, err := result.Raw()
	if err != nil {
		return nil, explain(err)
	}
	out := &tapv1alpha1.AuthzTry{}
	return out, unmarshal(data, out)
}

func unmarshal(data []byte, to any) error {
	if err := json.Unmarshal(data, to); err != nil {
		return fmt.Errorf("answer of the controller: %w", err)
	}
	return nil
}
