package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// completeFor bounds the time in which a shell waits for names.
const completeFor = 2 * time.Second

// types are what RESOURCE may begin with.
var types = []string{"deploy", "sts", "ds", "rs", "rc", "job", "cronjob", "pod", "ns", "svc"}

// Names returns the names of the resources of a type for the shell, none if they are not
// known. namespace is the user's value of --namespace, or "" for the one without it.
type Names func(ctx context.Context, kind, namespace string) []string

// NamesOf makes Names of a list of resources. namespace returns the namespace for the user's
// value; nil: the value itself, where "" is any.
func NamesOf(list func(context.Context, tapv1alpha1.ResourcesQuery) (*tapv1alpha1.ResourceList, error), namespace func(string) (string, error)) Names {
	return func(ctx context.Context, kind, named string) (names []string) {
		if kind == "ns" {
			named = ""
		} else if namespace != nil {
			var err error
			if named, err = namespace(named); err != nil {
				return nil
			}
		}
		ctx, cancel := context.WithTimeout(ctx, completeFor)
		defer cancel()
		answer, err := list(ctx, tapv1alpha1.ResourcesQuery{Kind: kind, Namespace: named})
		if err != nil {
			return nil
		}
		for i := range answer.Items {
			names = append(names, answer.Items[i].Name)
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
}

// Complete makes the shell complete the resources of a command that takes TYPE/NAME or TYPE
// NAME, and its flags that name resources and namespaces. names may be nil. With typesOnly the
// command takes types without names.
func Complete(cmd *cobra.Command, names Names, typesOnly bool) {
	if names == nil {
		names = func(context.Context, string, string) []string { return nil }
	}
	resources := func(flag string) cobra.CompletionFunc {
		return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			namespace := ""
			for _, name := range []string{"namespace", flag} {
				if value, err := cmd.Flags().GetString(name); err == nil && value != "" {
					namespace = value
				}
			}
			kind, _, slash := strings.Cut(word, "/")
			switch {
			case flag == "" && typesOnly && len(args) > 0:
				return nil, cobra.ShellCompDirectiveNoFileComp
			case flag == "" && len(args) > 0 && !strings.Contains(args[0], "/"):
				return names(cmd.Context(), args[0], namespace), cobra.ShellCompDirectiveNoFileComp
			case slash && !typesOnly:
				var out []string
				for _, name := range names(cmd.Context(), kind, namespace) {
					out = append(out, kind+"/"+name)
				}
				return out, cobra.ShellCompDirectiveNoFileComp
			}
			return types, cobra.ShellCompDirectiveNoFileComp
		}
	}
	cmd.ValidArgsFunction = resources("")
	for _, flag := range []string{"to", "from"} {
		if cmd.Flags().Lookup(flag) != nil {
			_ = cmd.RegisterFlagCompletionFunc(flag, resources(flag+"-namespace"))
		}
	}
	for _, flag := range []string{"namespace", "to-namespace", "from-namespace"} {
		if cmd.Flags().Lookup(flag) != nil {
			_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
				return names(cmd.Context(), "ns", ""), cobra.ShellCompDirectiveNoFileComp
			})
		}
	}
}
