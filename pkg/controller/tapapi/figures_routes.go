package tapapi

import (
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// routeList answers with the routes of all namespaces or of that in the path, and what the
// agents remember of their requests.
func (s *asker) routeList(w http.ResponseWriter, r *http.Request) error {
	now := time.Now()
	q, request, err := readFigures(r, now)
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	if _, err := filter.ParseSelector(q.Selector); err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, "parameter labelSelector: "+err.Error())
	}
	request.Routes, request.Selector = true, q.Selector
	answers, err := s.askAgents(r.Context(), q.Namespace, request)
	if err != nil {
		return err
	}
	known := &table.KnownRoutes{Routes: s.opt.Cluster.Routes(), Services: s.opt.Cluster.Services()}
	return writeJSON(w, table.MergeRoutes(&q, answers, known, now))
}
