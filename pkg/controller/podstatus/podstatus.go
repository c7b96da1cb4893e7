// Package podstatus writes the agents' reports onto pods. The annotation
// underlane.io/status has a pod's state. The annotation underlane.io/enrolled
// records that the pod was enrolled once.
package podstatus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/mesh"
)

const (
	workers = 4
	timeout = 10 * time.Second
	// quiet is the shortest time between two writes to a pod when only details
	// changed, such as the number of connections that are draining.
	quiet = 10 * time.Second
	// Rate limit of writes to the API server, for all pods together.
	writesPerSecond, writeBurst = 20, 100
	// A failed write is tried again after retryFirst. The delay grows up to
	// retryLast.
	retryFirst, retryLast = 200 * time.Millisecond, time.Minute
	// An agent may learn of a pod from another replica before this replica's watch
	// has the pod. The pod is looked up this many times.
	lookups = 6
)

var errUnknown = errors.New("no such pod is known")

// Pods finds a pod by its UID. Pod returns nil when there is none.
type Pods interface {
	Pod(uid string) *translate.Pod
}

// Writer is a server.Observer that writes the agents' reports onto the pods.
type Writer struct {
	client kubernetes.Interface
	pods   Pods
	log    *slog.Logger
	queue  workqueue.TypedRateLimitingInterface[string] // of UIDs

	written, failed atomic.Uint64

	mu     sync.Mutex
	wanted map[string]report // reports to write, by UID
	done   map[string]report // reports that were written last, by UID
}

// report is an agent's report on a pod.
type report struct {
	node, state, text string
	at                time.Time // time of the write, in done
}

// New returns a Writer that writes nothing before Run.
func New(client kubernetes.Interface, pods Pods, log *slog.Logger) *Writer {
	limiter := workqueue.NewTypedMaxOfRateLimiter[string](
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryFirst, retryLast),
		&workqueue.TypedBucketRateLimiter[string]{Limiter: rate.NewLimiter(writesPerSecond, writeBurst)},
	)
	return &Writer{
		client: client, pods: pods, log: log, queue: workqueue.NewTypedRateLimitingQueue(limiter),
		wanted: map[string]report{}, done: map[string]report{},
	}
}

// Stats returns the number of annotations written, and the number of failed writes.
func (w *Writer) Stats() (written, failed uint64) { return w.written.Load(), w.failed.Load() }

// AgentConnected implements server.Observer.
func (w *Writer) AgentConnected(server.AgentInfo) {}

// AgentDisconnected implements server.Observer. The last reports on the node's pods
// stay.
func (w *Writer) AgentDisconnected(node string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for uid, r := range w.done {
		if r.node == node {
			delete(w.done, uid)
		}
	}
}

// PodsReported implements server.Observer.
func (w *Writer) PodsReported(node string, pods []control.PodStatus) {
	for _, p := range pods {
		text, ok := annotation(p)
		if !ok {
			w.log.Warn("an agent reported a state that is none", "node", node, "pod", p.UID, "state", p.State)
			continue
		}
		// A report from another node must not replace that of the pod's own node.
		if pod := w.pods.Pod(p.UID); pod != nil && w.foreign(pod, node) {
			continue
		}
		w.mu.Lock()
		w.wanted[p.UID] = report{node: node, state: p.State, text: text}
		wait := time.Duration(0)
		if last, ok := w.done[p.UID]; ok && last.state == p.State {
			wait = quiet - time.Since(last.at)
		}
		w.mu.Unlock()
		w.queue.AddAfter(p.UID, wait)
	}
}

// annotation returns the text of a pod's annotation, "" for none.
func annotation(p control.PodStatus) (text string, ok bool) {
	reason := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, p.Reason)
	switch p.State {
	case "":
		return "", true
	case mesh.PodEnrolled:
		switch p.PreMesh {
		case 0:
			return p.State, true
		case 1:
			return p.State + "; 1 connection predates it", true
		}
		return fmt.Sprintf("%s; %d connections predate it", p.State, p.PreMesh), true
	case mesh.PodPending, mesh.PodFailed, mesh.PodLeftOut:
		if reason == "" {
			return p.State, true
		}
		return p.State + ": " + reason, true
	}
	return "", false
}

// Run writes until ctx ends, and then returns its error.
func (w *Writer) Run(ctx context.Context) error {
	var g sync.WaitGroup
	for range workers {
		g.Go(func() {
			for {
				uid, stop := w.queue.Get()
				if stop {
					return
				}
				w.work(ctx, uid)
				w.queue.Done(uid)
			}
		})
	}
	<-ctx.Done()
	w.queue.ShutDown()
	g.Wait()
	return ctx.Err()
}

func (w *Writer) work(ctx context.Context, uid string) {
	w.mu.Lock()
	want, ok := w.wanted[uid]
	w.mu.Unlock()
	if !ok {
		return
	}
	err := w.write(ctx, uid, want)
	if errors.Is(err, errUnknown) && w.queue.NumRequeues(uid) < lookups {
		w.queue.AddRateLimited(uid)
		return
	}
	if err != nil && !errors.Is(err, errUnknown) && ctx.Err() == nil {
		if w.failed.Add(1); w.queue.NumRequeues(uid) == 0 {
			w.log.Warn("a pod's status could not be written: trying again", "pod", uid, "status", want.text, "err", err)
		}
		w.queue.AddRateLimited(uid)
		return
	}
	w.queue.Forget(uid)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wanted[uid] == want {
		delete(w.wanted, uid)
	}
	if want.text == "" {
		delete(w.done, uid)
	} else {
		want.at = time.Now()
		w.done[uid] = want
	}
}

// write writes the annotations onto the pod unless the pod has them already. It
// does not change a pod of another node.
func (w *Writer) write(ctx context.Context, uid string, want report) error {
	pod := w.pods.Pod(uid)
	switch {
	case pod == nil && want.text != "":
		return errUnknown
	case pod == nil:
		return nil // deleted
	case pod.Spec.NodeName == "":
		return errUnknown // the watch has not delivered the pod's node yet
	case w.foreign(pod, want.node):
		return nil
	}
	patch, err := patchOf(pod, uid, want)
	if patch == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// The status subresource accepts changes of annotations but not of the spec. The
	// controller therefore needs less permission.
	_, err = w.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // deleted; another pod has its name now
	}
	if err == nil {
		w.written.Add(1)
	}
	return err
}

// foreign reports whether a pod is on a node other than node, which reported it.
func (w *Writer) foreign(pod *translate.Pod, node string) bool {
	if on := pod.Spec.NodeName; on == node || on == "" {
		return false
	}
	w.log.Warn("an agent reported a pod that is not on its node", "node", node, "pod", pod.Namespace+"/"+pod.Name)
	return true
}

// patchOf returns a merge patch that applies only to the pod with this UID. It
// returns nil if the pod has the annotations. The patch removes
// underlane.io/enrolled only when the pod is no longer labelled.
func patchOf(pod *translate.Pod, uid string, want report) ([]byte, error) {
	change := map[string]*string{} // nil removes the annotation
	set := func(name, value string) {
		if now, has := pod.Annotations[name]; now == value && has == (value != "") {
			return
		}
		change[name] = nil
		if value != "" {
			change[name] = &value
		}
	}
	set(mesh.AnnotationStatus, want.text)
	switch want.state {
	case mesh.PodEnrolled:
		set(mesh.AnnotationEnrolled, "true")
	case "":
		set(mesh.AnnotationEnrolled, "")
	}
	if len(change) == 0 {
		return nil, nil
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid, "annotations": change}})
}
