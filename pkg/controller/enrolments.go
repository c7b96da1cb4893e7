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

// enrolments remembers which pods their agents have had in the mesh. To those
// nobody speaks plaintext any more because no agent answers, be it away or kept
// from answering: what they are stays until the pod goes or its label does. In a
// cluster the annotation underlane.io/enrolled carries it over a restart and to
// other replicas, otherwise a file does.
type enrolments struct {
	server.Observer // hears everything too; nil: there is none
	path            string
	log             *slog.Logger
	changed         chan struct{}

	mu      sync.Mutex
	pods    map[claim]enrolment
	written map[string]string // what the file has: nodes by UID
}

// claim is what a node said of a pod. What another says of it, on which the pod is
// not, must not displace it.
type claim struct{ uid, node string }

type enrolment struct {
	since time.Time
	known bool // there was such a pod
}

// unknownFor is how long an agent may be ahead of the source, which has yet to
// bring the pod.
const unknownFor = 10 * time.Minute

// newEnrolments returns what the file at path has; "" is no file.
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

// AgentConnected is server.Observer's.
func (e *enrolments) AgentConnected(a server.AgentInfo) {
	if e.Observer != nil {
		e.Observer.AgentConnected(a)
	}
}

// AgentDisconnected is server.Observer's. Its pods stay what they are.
func (e *enrolments) AgentDisconnected(node string) {
	if e.Observer != nil {
		e.Observer.AgentDisconnected(node)
	}
}

// PodsReported is server.Observer's.
func (e *enrolments) PodsReported(node string, pods []control.PodStatus) {
	if e.Observer != nil {
		e.Observer.PodsReported(node, pods)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	news := false
	for _, p := range pods {
		if _, known := e.pods[claim{p.UID, node}]; p.State == "enrolled" && !known {
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

// mark sets Enrolled of those that are, and forgets pods that are gone. A node
// has a say in its own pods only.
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

// save writes the file where it is out of date. mu is held.
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
