package cluster

import (
	"fmt"
	"strings"

	"k8s.io/client-go/util/jsonpath"
)

// jsonPath returns what finds the parts of a JSON value that an expression means. As in
// Linkerd, the dot before it and the braces around it may be missing.
func jsonPath(expression string) (func(value any) ([]any, error), error) {
	inner, opened := strings.CutPrefix(expression, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	if inner == "" || opened != closed || strings.ContainsAny(inner, "{}") {
		return nil, fmt.Errorf("jsonpath=%s: want one expression, as in jsonpath={.source.metadata.pod}", expression)
	}
	path := jsonpath.New("event").AllowMissingKeys(true)
	if err := path.Parse("{." + strings.TrimPrefix(inner, ".") + "}"); err != nil {
		return nil, fmt.Errorf("jsonpath=%s: %w", expression, err)
	}
	return func(value any) (found []any, err error) {
		results, err := path.FindResults(value)
		if err != nil {
			return nil, fmt.Errorf("jsonpath=%s: %w", expression, err)
		}
		for _, matches := range results {
			for _, match := range matches {
				found = append(found, match.Interface())
			}
		}
		return found, nil
	}, nil
}
