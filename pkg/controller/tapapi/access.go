package tapapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// resource is the RBAC resource of a call: the attributes that the API server
// itself derives from the call's path.
type resource struct {
	verb                        string
	namespace                   string
	resource, subresource, name string
	whatFor                     string // the user's action, for the text of a refusal: tap, see
	role                        string // the ClusterRole that allows it; "": tapv1alpha1.ClusterRole
}

func (r resource) String() string {
	s := r.resource
	if r.name != "" {
		s += "/" + r.name
	}
	if r.resource == "tap" {
		s = "everything"
	}
	if r.namespace != "" {
		s += " in namespace " + r.namespace
	}
	return s
}

// mayCall asks the cluster's authorizer. A nil error means that the call is
// allowed.
func (s *access) mayCall(ctx context.Context, u user, r resource) error {
	allowed, err := s.allows(ctx, u, r)
	if err == nil && !allowed {
		s.count("denied")
		return forbidden(fmt.Sprintf("user %q may not %s %s: ask for the ClusterRole %s", u.name, r.whatFor, r, cmp.Or(r.role, tapv1alpha1.ClusterRole)))
	}
	return err
}

// allows reports what the cluster's authorizer says. A refusal is not counted.
func (s *access) allows(ctx context.Context, u user, r resource) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: u.name, UID: u.uid, Groups: u.groups, Extra: u.extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: tapv1alpha1.Group, Version: tapv1alpha1.Version, Verb: r.verb,
			Namespace: r.namespace, Resource: r.resource, Subresource: r.subresource, Name: r.name,
		},
	}}
	answer, err := s.opt.Client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		s.count("authorization-failed")
		return false, apierrors.NewInternalError(fmt.Errorf("ask the API server whether user %q may do this: %w", u.name, err))
	}
	return answer.Status.Allowed && !answer.Status.Denied, nil
}

type callerKey struct{}

// caller is the user of a call and the resource that the user was allowed. The handlers
// that need one more permission ask for it by mayAlso.
type caller struct {
	user
	resource
}

// mayAlso asks whether the user of r may use one more verb of the call's resource.
func (s *access) mayAlso(r *http.Request, verb, whatFor, role string) error {
	c, ok := r.Context().Value(callerKey{}).(caller)
	if !ok {
		return apierrors.NewInternalError(errors.New("the call has no user"))
	}
	c.verb, c.whatFor, c.role = verb, whatFor, role
	return s.mayCall(r.Context(), c.user, c.resource)
}

// forbidden is like apierrors.NewForbidden, but with the given text.
func forbidden(text string) error {
	return failure(http.StatusForbidden, metav1.StatusReasonForbidden, text)
}

func failure(code int32, reason metav1.StatusReason, text string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason, Message: text,
	}}
}

func notFound(kind, name, text string) error {
	err := apierrors.NewNotFound(schema.GroupResource{Group: tapv1alpha1.Group, Resource: kind}, name)
	err.ErrStatus.Message = text
	return err
}
