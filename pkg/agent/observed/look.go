package observed

import (
	"context"
	"errors"
	"fmt"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
)

// look is a wish to watch pods for a moment.
type look struct {
	selects func(*mesh.Workload) bool
	begun   chan struct{} // closed when its pods were looked for
	known   bool          // begun is closed
	err     error         // why none is watched; valid when begun is closed
}

// Errors of Look, for users.
var (
	ErrMeshed = errors.New("the pods are in the mesh: their requests are shown without that")
	ErrNone   = errors.New("no such pod is on this node")
)

// Look watches the pods of the node that are selected, and not in the mesh, until the caller
// calls end. It returns when they are watched. Pods that come later are watched as well.
func (w *Watch) Look(ctx context.Context, selects func(*mesh.Workload) bool) (end func(), err error) {
	meshed, others := 0, 0
	for _, local := range w.State.View().Local() {
		switch {
		case !selects(local):
		case local.Meshed:
			meshed++
		default:
			others++
		}
	}
	if others == 0 && meshed > 0 {
		return nil, ErrMeshed
	}
	if others == 0 {
		return nil, ErrNone
	}
	l := &look{selects: selects, begun: make(chan struct{})}
	w.mu.Lock()
	w.looks[l] = true
	w.mu.Unlock()
	w.look()
	end = func() {
		w.mu.Lock()
		delete(w.looks, l)
		w.mu.Unlock()
		w.look()
	}
	select {
	case <-l.begun:
		err = l.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("observe pods: %w", err)
	}
	return end, nil
}

// look makes Run look for the pods.
func (w *Watch) look() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// looksAt reports whether a pod is watched for a moment.
func (w *Watch) looksAt(local *mesh.Workload) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range w.looks {
		if l.selects(local) {
			return true
		}
	}
	return false
}

// begun tells those that look what became of it.
func (w *Watch) begun(failed error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range w.looks {
		if l.known {
			continue
		}
		l.known, l.err = true, failed
		for _, p := range w.pods {
			if p.scope == redirect.All && l.selects(p.workload) {
				l.err = nil
			}
		}
		close(l.begun)
	}
}
