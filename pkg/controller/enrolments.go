package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/mesh"
)

// enrolments records which pods their agents have enrolled. Clients do not fall
// back to plaintext for such a pod when its agent does not answer, whether the
// agent is away or an attacker blocks it. A pod stays enrolled until the pod or its
// label is removed. In a cluster the annotation underlane.io/enrolled preserves
// this over a restart and for other replicas. Without a cluster a file does.
type enrolments struct {
	server.Observer // receives every call too
	path            string
	log             *slog.Logger
	changed         chan struct{}

	mu      sync.Mutex
	pods    map[claim]enrolment
	written map[string]string   // content of the file: nodes by UID
	leaving map[claim]bool      // pods that are not meshed any more: see Workload.Leaving
	waiting map[claim]time.Time // pods that are not enrolled yet, since when: see markOverdue
	timer   *time.Timer         // for the next of them; nil: there is none
	marks   marks
	unsaved bool // pods differs from written
}

// claim is a node's statement about a pod. Claims are stored by node, so that a
// claim of another node cannot displace that of the pod's own node.
type claim struct{ uid, node string }

type enrolment struct {
	since time.Time
	known bool // the source has had this pod
	addrs [2]netip.Addr
}

// unknownFor is how long the claim on a pod stays while the source does not have
// the pod: an agent may learn of a pod before the source does.
const unknownFor = 10 * time.Minute

// newEnrolments reads the file at path; "" stands for no file. It passes every call
// on to next.
func newEnrolments(next server.Observer, path string, log *slog.Logger) (*enrolments, error) {
	e := &enrolments{Observer: next, path: path, log: log, changed: make(chan struct{}, 1), pods: map[claim]enrolment{}, leaving: map[claim]bool{}, waiting: map[claim]time.Time{}, marks: newMarks()}
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
		e.marks.strange[claim{uid, node}] = struct{}{}
	}
	return e, nil
}

// PodsReported implements server.Observer. AgentDisconnected is only passed on,
// because the pods of a node stay enrolled without its agent.
func (e *enrolments) PodsReported(node string, pods []control.PodStatus) {
	e.Observer.PodsReported(node, pods)
	e.mu.Lock()
	defer e.mu.Unlock()
	news := false
	for _, p := range pods {
		is := claim{p.UID, node}
		if p.State == "" && e.leaving[is] != p.Leaving {
			e.leave(is, p.Leaving)
			news = true
		}
		if p.State != mesh.PodEnrolled {
			continue
		}
		was, known := e.pods[is]
		if !known {
			was.since = time.Now()
		}
		if !known || was.addrs != p.Addrs {
			was.addrs = p.Addrs
			e.pods[is] = was
			e.unsaved = true
			if !was.known {
				e.marks.strange[is] = struct{}{}
			}
			e.touch(is)
			news = true
		}
	}
	if news {
		e.change()
	}
}

// save writes the file if its content is out of date. The caller holds mu.
func (e *enrolments) save() {
	if e.path == "" || !e.unsaved {
		return
	}
	e.unsaved = false
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
		e.unsaved = true // the next apply tries again
		e.log.Error("which pods were enrolled cannot be written: a restart forgets it", "err", err)
		return
	}
	e.written = now
}
