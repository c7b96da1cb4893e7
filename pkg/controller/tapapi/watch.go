package tapapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/figures/watch"
)

// watchFigures streams figures. Those who watch the same question share the answers, which
// depend on the question alone: RBAC has allowed it to each of them.
func (s *asker) watchFigures(w http.ResponseWriter, r *http.Request) error {
	q, _, err := readFigures(r, time.Now())
	if err == nil {
		_, err = labels.Parse(q.Selector)
	}
	var every time.Duration
	if err == nil {
		q, every, err = watch.Query(q, r.URL.Query().Has("window"))
	}
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	who, _ := r.Context().Value(callerKey{}).(caller)
	err = s.watched.Serve(w, r, who.user.name, q, every)
	if errors.Is(err, watch.ErrTooMany) {
		return failure(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, err.Error())
	}
	return err
}

// askWatched answers a question of the hub.
func (s *asker) askWatched(ctx context.Context, q tapv1alpha1.FiguresQuery) (any, error) {
	now := time.Now()
	request, err := table.Request(&q, now)
	if err != nil {
		return nil, err
	}
	selector, err := labels.Parse(q.Selector)
	if err != nil {
		return nil, err
	}
	answers, err := s.askAgents(ctx, q.Namespace, request)
	if err != nil {
		return nil, err
	}
	return table.Merge(&q, answers, s.known(selector), now), nil
}
