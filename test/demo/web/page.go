package web

import (
	"bytes"
	"context"
	"embed"
	"html/template"
	"log/slog"
	"net/http"
)

//go:embed static
var static embed.FS

//go:embed page.html
var pageSource string

var pageTemplate = template.Must(template.New("page").Parse(pageSource))

// page renders the ballot. The page's script fills in and updates the counts.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	choices, err := s.choices(ctx)
	if err != nil {
		reply(w, nil, err)
		return
	}
	var page bytes.Buffer
	if err := pageTemplate.Execute(&page, struct {
		Choices  []Choice
		Greeting string
	}{choices, s.greeting(ctx)}); err != nil {
		slog.Error("render the page", "error", err)
		http.Error(w, "cannot render the page", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(page.Bytes())
}
