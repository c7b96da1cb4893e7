package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/whycmd"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// WhyCommand is `underlane why`.
func WhyCommand(flags *Flags) *cobra.Command {
	return whycmd.Command(&whycmd.Source{Program: "underlane", Namespace: flags.Namespace, Ask: flags.tapAPI().why})
}

// why asks the controller.
func (a *tapAPI) why(ctx context.Context, q tapv1alpha1.WhyQuery) (*tapv1alpha1.WhyReport, error) {
	from, err := filter.ParseResource(q.From, q.Namespace)
	if err != nil {
		return nil, err
	}
	client, err := a.rest()
	if err != nil {
		return nil, err
	}
	kind := string(from.Kind) + "s"
	r := client.Get().AbsPath(tapv1alpha1.WhyPath(q.Namespace, kind, from.Name))
	if q.Try != "" {
		r = client.Post().AbsPath(tapv1alpha1.TryPath(q.Namespace, kind, from.Name))
	}
	for name, values := range (map[string][]string)(url.Values(q.Values())) {
		for _, value := range values {
			r = r.Param(name, value)
		}
	}
	result := r.Do(ctx)
	if err := result.Error(); err != nil { // the error of DoRaw does not include the server's text
		return nil, explain(err)
	}
	data, err := result.Raw()
	if err != nil {
		return nil, explain(err)
	}
	report := &tapv1alpha1.WhyReport{}
	if err := json.Unmarshal(data, report); err != nil {
		return nil, fmt.Errorf("answer of the controller: %w", err)
	}
	return report, nil
}
