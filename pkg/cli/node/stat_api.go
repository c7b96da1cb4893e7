package node

import (
	"encoding/json"
	"net/http"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures/table"
)

// FiguresAPI answers GET /figures and /namespaces/NAMESPACE/figures as tap.underlane.io
// does, with what this node's agent remembers.
func (f *Flags) FiguresAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /figures", f.serveFigures)
	mux.HandleFunc("GET /namespaces/{namespace}/figures", f.serveFigures)
	return mux
}

func (f *Flags) serveFigures(w http.ResponseWriter, r *http.Request) {
	code := http.StatusBadRequest
	q, err := tapv1alpha1.ParseFigures(r.URL.Query())
	if namespace := r.PathValue("namespace"); namespace != "" {
		q.Namespace = namespace
	}
	if err == nil {
		_, err = table.Request(&q, time.Now()) // is it a question?
	}
	var answer any
	if err == nil {
		code = http.StatusServiceUnavailable
		answer, err = f.figures(r.Context(), q)
	}
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(code)
		answer = map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": http.StatusText(code), "message": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(answer)
}
