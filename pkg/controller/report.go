package controller

import (
	"log/slog"
	"slices"
	"sync"

	"github.com/underlane/underlane/pkg/controller/translate"
)

// report has the problems of objects that could be read but have invalid values.
// Each problem is logged when it appears.
type report struct {
	mu       sync.Mutex
	problems []ObjectProblem
	total    uint64
}

// ObjectProblem is an invalid value in an object, which the controller ignores.
type ObjectProblem struct {
	Object string `json:"object"`
	Origin string `json:"origin,omitempty"` // FILE:LINE of the object
	Reason string `json:"reason"`
}

func (r *report) update(source Source, problems []translate.Problem, log *slog.Logger) {
	var now []ObjectProblem
	for _, p := range problems {
		object := p.Kind + " " + p.Name
		if p.Namespace != "" {
			object = p.Kind + " " + p.Namespace + "/" + p.Name
		}
		now = append(now, ObjectProblem{Object: object, Origin: source.Origin(p.Kind, p.Namespace, p.Name), Reason: p.Reason})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known := make(map[ObjectProblem]bool, len(r.problems))
	for _, p := range r.problems {
		known[p] = true
	}
	for _, p := range now {
		if !known[p] {
			r.total++
			log.Warn("something in an object is not understood", "object", p.Object, "origin", p.Origin, "reason", p.Reason)
		}
	}
	r.problems = now
}

func (r *report) get() (problems []ObjectProblem, total uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.problems), r.total
}
