package check

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Answer is a Report as the API's path /check has it.
type Answer struct {
	Kind       string           `json:"kind"` // Check
	APIVersion string           `json:"apiVersion"`
	Time       time.Time        `json:"time"` // when the checks ended
	Success    bool             `json:"success"`
	Categories []AnswerCategory `json:"categories"`
}

// AnswerCategory is a titled group of checks.
type AnswerCategory struct {
	Name   string        `json:"name"`
	Checks []AnswerCheck `json:"checks"`
}

// AnswerCheck is one check that ran.
type AnswerCheck struct {
	Description string `json:"description"`
	Result      string `json:"result"` // ok, warning or error
	Message     string `json:"message,omitempty"`
	Hint        string `json:"hint,omitempty"`
}

// answerResults are the results as the API names them.
var answerResults = map[Outcome]string{Success: "ok", Warning: "warning", Failure: "error"}

// Answer converts the report. version is that of the API.
func (report *Report) Answer(version string, at time.Time) *Answer {
	out := &Answer{Kind: "Check", APIVersion: version, Time: at.UTC(), Success: report.Success, Categories: []AnswerCategory{}}
	for _, c := range report.Categories {
		category := AnswerCategory{Name: c.Name, Checks: []AnswerCheck{}}
		for _, r := range c.Checks {
			category.Checks = append(category.Checks, AnswerCheck{Description: r.Description, Result: answerResults[r.Result], Message: r.Error, Hint: r.Hint})
		}
		out.Categories = append(out.Categories, category)
	}
	return out
}

const (
	// answerTime bounds a run for an answer: a person waits.
	answerTime = 30 * time.Second
	// answerAge is how long a result serves for later questions: several tabs may ask.
	answerAge = 5 * time.Second
)

// handler runs checks when it is asked, one run at a time.
type handler struct {
	version    string
	categories func() []Category

	turn chan struct{} // is full while a question is being answered; guards last
	last *Answer
}

// Handler returns a handler of GET requests at any path. It runs what
// categories returns, which it calls for each run, and answers with an Answer. Questions that
// come meanwhile wait, and get the same one. version is that of the API.
func Handler(version string, categories func() []Category) http.Handler {
	return &handler{version: version, categories: categories, turn: make(chan struct{}, 1)}
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this path can only be read: use GET", http.StatusMethodNotAllowed)
		return
	}
	asked := time.Now()
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-r.Context().Done():
		return
	}
	if h.last == nil || h.last.Time.Before(asked.Add(-answerAge)) {
		ctx, cancel := context.WithTimeout(r.Context(), answerTime)
		defer cancel()
		report := Run(ctx, h.categories(), nil)
		if r.Context().Err() != nil {
			return // the results say only that the caller has gone
		}
		h.last = report.Answer(h.version, time.Now())
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(h.last)
}

// Mount returns a handler that answers /check with checks, and the rest as api does.
func Mount(checks, api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/check" {
			checks.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}
