package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// TestComplete: the shell is told types, names of the namespace that is meant, and namespaces.
func TestComplete(t *testing.T) {
	list := func(_ context.Context, q tapv1alpha1.ResourcesQuery) (*tapv1alpha1.ResourceList, error) {
		if q.Kind == "sts" {
			return nil, errors.New("no right")
		}
		return &tapv1alpha1.ResourceList{Items: []tapv1alpha1.ResourceItem{
			{Resource: tapv1alpha1.Resource{Name: q.Kind + "." + q.Namespace}}, {Resource: tapv1alpha1.Resource{Name: "a"}}, {Resource: tapv1alpha1.Resource{Name: "a"}},
		}}, nil
	}
	namespace := func(named string) (string, error) {
		if named == "" {
			return "shop", nil
		}
		return named, nil
	}
	for _, c := range []struct {
		typesOnly bool
		args      string // a comma stands for an empty word at the end
		want      string
	}{
		{false, ",", strings.Join(types, " ")},
		{false, "deploy/", "deploy/a deploy/deploy.shop"},
		{false, "-n two deploy/", "deploy/a deploy/deploy.two"},
		{false, "deploy ,", "a deploy.shop"},
		{false, "sts/", ""},
		{false, "deploy --to svc/", "svc/a svc/svc.shop"},
		{false, "deploy --to-namespace two --to svc/", "svc/a svc/svc.two"},
		{false, "deploy -n ,", "a ns."},
		{true, ",", strings.Join(types, " ")},
		{true, "deploy ,", ""},
	} {
		cmd := &cobra.Command{Use: "stat", Run: func(*cobra.Command, []string) {}}
		cmd.Flags().StringP("namespace", "n", "", "")
		cmd.Flags().String("to", "", "")
		cmd.Flags().String("to-namespace", "", "")
		Complete(cmd, NamesOf(list, namespace), c.typesOnly)
		root := &cobra.Command{Use: "underlane"}
		root.AddCommand(cmd)
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetErr(&bytes.Buffer{})
		words := strings.Fields(c.args)
		if last := len(words) - 1; words[last] == "," {
			words[last] = ""
		}
		root.SetArgs(append([]string{cobra.ShellCompNoDescRequestCmd, "stat"}, words...))
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, _, _ := strings.Cut(out.String(), ":")
		if diff := cmp.Diff(c.want, strings.Join(strings.Fields(got), " ")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.args, diff)
		}
	}
}
