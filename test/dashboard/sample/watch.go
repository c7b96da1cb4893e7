package sample

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures/watch"
)

// watchFigures streams what figures answers, for each step.
func (w *World) watchFigures(rw http.ResponseWriter, r *http.Request) {
	ask := func(_ context.Context, q tapv1alpha1.FiguresQuery) (any, error) {
		inner := httptest.NewRequest(http.MethodGet, "/figures?"+q.Values().Encode(), nil)
		answer := httptest.NewRecorder()
		w.figures(answer, inner.WithContext(context.WithValue(inner.Context(), narrow{}, true)))
		return json.RawMessage(answer.Body.Bytes()), nil
	}
	q, err := tapv1alpha1.ParseFigures(r.URL.Query())
	if namespace := r.PathValue("namespace"); namespace != "" {
		q.Namespace = namespace
	}
	if err != nil {
		fail(rw, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	q, every, err := watch.Query(q, r.URL.Query().Has("window"))
	if err == nil {
		err = (&watch.Hub{Ask: ask}).Serve(rw, r, "", q, every)
	}
	if err != nil {
		fail(rw, http.StatusBadRequest, "BadRequest", err.Error())
	}
}
