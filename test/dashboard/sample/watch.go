package sample

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"time"

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
	if err == nil && w.options.Speed > 1 {
		w.stream(rw, r, ask, q, time.Duration(float64(every)/w.options.Speed))
		return
	}
	if err == nil {
		err = (&watch.Hub{Ask: ask}).Serve(rw, r, "", q, every)
	}
	if err != nil {
		fail(rw, http.StatusBadRequest, "BadRequest", err.Error())
	}
}

// stream answers q at once and then each time every has passed, as long as the reader takes it.
func (w *World) stream(rw http.ResponseWriter, r *http.Request, ask func(context.Context, tapv1alpha1.FiguresQuery) (any, error), q tapv1alpha1.FiguresQuery, every time.Duration) {
	rw.Header().Set("Content-Type", tapv1alpha1.MediaFigures)
	ticker := time.NewTicker(max(every, time.Millisecond))
	defer ticker.Stop()
	for {
		answer, err := ask(r.Context(), q)
		if err != nil || json.NewEncoder(rw).Encode(answer) != nil || http.NewResponseController(rw).Flush() != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
	}
}
