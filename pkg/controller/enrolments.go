package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/mesh"
)

// enrolments remembers which pods their agents have enrolled. Clients do not
// fall back to plaintext for such a pod when no agent answers, be the agent away
// or kept from answering. A pod stays enrolled until it or its label goes. In a
// cluster the annotation underlane.io/enrolled keeps this over a restart and for
// other replicas; otherwise a file does.
type enrolments struct {
	server.Observer // is told everything too
	path            string
	log             *slog.Logger
	changed         chan struct{}

	mu      sync.Mutex
	pods    map[claim]enrolment
	written map[string]string // content of the file: nodes by UID
}

// claim is a node's statement on a pod. Claims are kept by node, so that those of
// a node on which the pod is not cannot displace those of its own node.
type claim struct{ uid, node string }

type enrolment struct {
	since time.Time
	known bool // the source has had such a pod
}

// unknownFor is how long a claim is kept on a pod that the source does not have:
// an agent may know a pod earlier.
const unknownFor = 10 * time.Minute

// newEnrolments reads the file at path; "" is no file. next is told everything
// too.
func newEnrolments(next server.Observer, path string, log *slog.Logger) (*enrolments, error) {
	e := &enrolments{Observer: next, path: path, log: log, changed: make(chan struct{}, 1), pods: map[claim]enrolment{}}
	if path == "" {
		return e, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &e.written)
	}
	if err != nil {
		return nil, fmt.Errorf("which pods were enrolled (delete the file to go without): %w", err)
	}
	for uid, node := range e.written {
		e.pods[claim{uid, node}] = enrolment{since: time.Now()}
	}
	return e, nil
}

// PodsReported implements server.Observer. AgentDisconnected is only passed on: a
// node's pods stay enrolled without its agent.
func (e *enrolments) PodsReported(node string, pods []control.PodStatus) {
	e.Observer.PodsReported(node, pods)
	e.mu.Lock()
	defer e.mu.Unlock()
	news := false
	for _, p := range pods {
		if _, known := e.pods[claim{p.UID, node}]; p.State == mesh.PodEnrolled && !known {
			e.pods[claim{p.UID, node}] = enrolment{since: time.Now()}
			news = true
		}
	}
	if news {
		select {
		case e.changed <- struct{}{}:
		default:
		}
	}
}

// mark sets Enrolled of the workloads that are, and drops claims on pods that are
// gone. A claim counts only if it is of the node on which the pod is.
func (e *enrolments) mark(workloads []*mesh.Workload) {
	e.mu.Lock()
	defer e.mu.Unlock()
	meshed := make(map[claim]bool, len(e.pods))
	for _, w := range workloads {
		if !w.Meshed {
			continue
		}
		is := claim{w.UID, w.Node}
		was, ok := e.pods[is]
		if !w.Enrolled && !ok {
			continue
		}
		w.Enrolled, meshed[is] = true, true
		e.pods[is] = enrolment{since: was.since, known: true}
	}
	for is, was := range e.pods {
		if !meshed[is] && (was.known || time.Since(was.since) > unknownFor) {
			delete(e.pods, is)
		}
	}
	e.save()
}

// save writes the file if it is out of date. mu is held.
func (e *enrolments) save() {
	if e.path == "" {
		return
	}
	now := make(map[string]string, len(e.pods))
	for is, said := range e.pods {
		if _, another := now[is.uid]; said.known || !another {
			now[is.uid] = is.node
		}
	}
	if maps.Equal(now, e.written) {
		return
	}
	text, err := json.Marshal(now)
	if err == nil {
		err = os.WriteFile(e.path+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(e.path+".new", e.path)
	}
	if err != nil {
		e.log.Error("which pods were enrolled cannot be written: a restart forgets it", "err", err)
		return
	}
	e.written = now
}
