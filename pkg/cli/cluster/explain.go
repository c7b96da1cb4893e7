package cluster

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// explain adds the most likely cause to a refusal from the controller's API or from
// the API server in front of it.
func explain(err error) error {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return err
	}
	text := status.Status().Message
	switch {
	case apierrors.IsForbidden(err):
		return errors.New(refusal(text))
	case apierrors.IsServiceUnavailable(err) && !strings.Contains(text, "the agent of"):
		return fmt.Errorf("the controller's API (APIService %s) does not answer: `underlane check` says more: %s", tapv1alpha1.APIService, text)
	case apierrors.IsNotFound(err) && strings.Contains(text, "could not find the requested resource"):
		return fmt.Errorf("this cluster has no API %s: is Underlane installed? (`underlane install`, `underlane check`)", tapv1alpha1.GroupVersion)
	}
	return errors.New(text)
}

// apiServerRefusal matches the text of a refusal by the API server:
//
//	deployments.tap.underlane.io "web" is forbidden: User "jane" cannot watch
//	resource "deployments/tap" in API group "tap.underlane.io" in the namespace "shop"
var apiServerRefusal = regexp.MustCompile(
	`^([a-z]+)\.` + regexp.QuoteMeta(tapv1alpha1.Group) + `(?: "([^"]*)")? is forbidden: User "([^"]*)" cannot (\w+) resource(?:.* in the namespace "([^"]*)")?`)

// refusal rewrites a refusal of the API server in the controller's words, which
// name the missing permission.
func refusal(text string) string {
	m := apiServerRefusal.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	resource, name, user, verb, namespace := m[1], m[2], m[3], m[4], m[5]
	if resource == "tap" {
		resource = "everything"
	}
	if name != "" {
		resource += "/" + name
	}
	whatFor, role := "see", tapv1alpha1.ClusterRole
	switch verb {
	case "watch":
		whatFor = "tap"
	case "create":
		whatFor, role = "make connections as", tapv1alpha1.TryClusterRole
	}
	if namespace != "" {
		resource += " in namespace " + namespace
	}
	return fmt.Sprintf("user %q may not %s %s: ask for the ClusterRole %s", user, whatFor, resource, role)
}
