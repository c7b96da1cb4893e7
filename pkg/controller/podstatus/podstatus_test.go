package podstatus

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/controller/apitest"
	"github.com/underlane/underlane/pkg/controller/kind"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a Writer, and pods as an API server has them.
type fixture struct {
	*Writer
	t      *testing.T
	server *apitest.Server

	mu   sync.Mutex
	pods map[string]*translate.Pod
}

func (f *fixture) Pod(uid string) *translate.Pod {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pods[uid]
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, server: apitest.New(t), pods: map[string]*translate.Pod{}}
	f.Writer = New(f.server.Client(), f, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

func (f *fixture) addPod(name, node string) string {
	f.t.Helper()
	p, err := f.server.Client().CoreV1().Pods("shop").Create(f.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"other": "stays"}}, Spec: corev1.PodSpec{NodeName: node},
	}, metav1.CreateOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pods[string(p.UID)] = kind.PodOf(p)
	return string(p.UID)
}

func (f *fixture) annotations(uid string) map[string]string {
	f.t.Helper()
	p, err := f.server.Client().CoreV1().Pods("shop").Get(f.t.Context(), f.Pod(uid).Name, metav1.GetOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pods[uid] = kind.PodOf(p) // as the watch would
	return p.Annotations
}

func (f *fixture) until(uid, want string) {
	f.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		a := f.annotations(uid)
		if got, has := a[mesh.AnnotationStatus]; got == want && has == (want != "") {
			if a["other"] != "stays" {
				f.t.Error("another annotation is gone")
			}
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("want %q, have %v", want, a)
		}
		time.Sleep(time.Millisecond)
	}
}

func (f *fixture) report(node, uid, state, reason string, preMesh uint32) {
	f.PodsReported(node, []control.PodStatus{{UID: uid, State: state, Reason: reason, PreMesh: preMesh}})
}

func TestReportsAreShown(t *testing.T) {
	f := newFixture(t)
	uid := f.addPod("web", "n1")
	f.report("n1", uid, "pending", "no certificate\nyet", 0)
	f.until(uid, "pending: no certificate yet")
	f.report("n1", uid, "enrolled", "", 3)
	f.until(uid, "enrolled; 3 connections predate it")
	f.report("n1", uid, "left-out", "host network", 0)
	f.until(uid, "left-out: host network")
	f.report("n1", uid, "", "", 0)
	f.until(uid, "")
	// The last write is seen before it is counted.
	written, failed := f.Stats()
	for deadline := time.Now().Add(10 * time.Second); written < 4 && time.Now().Before(deadline); written, failed = f.Stats() {
		time.Sleep(time.Millisecond)
	}
	if written != 4 || failed != 0 {
		t.Errorf("%d written, %d failed", written, failed)
	}
}

// That a pod was in the mesh is not taken back, whatever becomes of it later, but
// with its label.
func TestEnrolledStays(t *testing.T) {
	f := newFixture(t)
	uid := f.addPod("web", "n1")
	for _, step := range []struct{ state, text, enrolled string }{
		{"pending", "pending", ""},
		{"enrolled", "enrolled", "true"},
		{"pending", "pending", "true"},
		{"failed", "failed", "true"},
		{"", "", ""},
	} {
		f.report("n1", uid, step.state, "", 0)
		f.until(uid, step.text)
		if got := f.Pod(uid).Annotations[mesh.AnnotationEnrolled]; got != step.enrolled {
			t.Errorf("%q: enrolled is %q, want %q", step.state, got, step.enrolled)
		}
	}
}

func TestWhatIsThereIsNotWrittenAgain(t *testing.T) {
	f := newFixture(t)
	uid, other := f.addPod("web", "n1"), f.addPod("other", "n1")
	f.report("n1", uid, "enrolled", "", 0)
	f.until(uid, "enrolled")
	f.AgentDisconnected("n1") // and comes to this replica again, telling everything
	f.report("n1", uid, "enrolled", "", 0)
	f.report("n1", other, "enrolled", "", 0) // the same worker queue: when this is done, so is that
	f.until(other, "enrolled")
	if n := f.server.Requests("PATCH pods"); n != 2 {
		t.Errorf("%d patches, want 2", n)
	}
}

// TestDetailsWait: a number that counts down is not worth a write each time; a
// change of state is.
func TestDetailsWait(t *testing.T) {
	f := newFixture(t)
	uid := f.addPod("web", "n1")
	f.report("n1", uid, "enrolled", "", 100)
	f.until(uid, "enrolled; 100 connections predate it")
	for n := uint32(99); n > 0; n-- {
		f.report("n1", uid, "enrolled", "", n)
	}
	f.report("n1", uid, "failed", "gone wrong", 0)
	f.until(uid, "failed: gone wrong")
	if n := f.server.Requests("PATCH pods"); n > 3 {
		t.Errorf("%d patches", n)
	}
}

func TestAgentsSpeakForTheirOwnPodsOnly(t *testing.T) {
	f := newFixture(t)
	uid, own := f.addPod("web", "n1"), f.addPod("own", "n2")
	f.report("n2", uid, "failed", "a lie", 0)
	f.report("n2", "no-such-pod", "enrolled", "", 0)
	f.report("n2", own, "hacked", "", 0)
	f.report("n2", own, "enrolled", "", 1)
	f.until(own, "enrolled; 1 connection predates it")
	if a := f.annotations(uid); a[mesh.AnnotationStatus] != "" {
		t.Errorf("the pod of another node: %v", a)
	}
}

// What a node says of another's pod does not take the place of what waits to be
// written of it.
func TestNoNodeDisplacesAnothersWord(t *testing.T) {
	f := newFixture(t)
	uid := f.addPod("web", "n1")
	w := New(f.server.Client(), f, f.log) // writes nothing: it does not run
	defer w.queue.ShutDown()
	for _, node := range []string{"n1", "n2"} {
		w.PodsReported(node, []control.PodStatus{{UID: uid, State: "enrolled"}})
	}
	if got := w.wanted[uid].node; got != "n1" {
		t.Errorf("what node %s said is to be written", got)
	}
}

// The agent may know before this replica's watch where the pod is.
func TestPodWhoseNodeIsNotKnownYet(t *testing.T) {
	f := newFixture(t)
	uid := f.addPod("web", "n1")
	pod := f.Pod(uid)
	early := *pod
	early.Spec.NodeName = ""
	if err := f.write(t.Context(), uid, report{node: "n1", state: "enrolled", text: "enrolled"}); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.pods[uid] = &early
	f.mu.Unlock()
	if err := f.write(t.Context(), uid, report{node: "n1", state: "enrolled", text: "enrolled"}); !errors.Is(err, errUnknown) {
		t.Errorf("%v, want %v", err, errUnknown)
	}
}

func TestOutageIsWaitedFor(t *testing.T) {
	f := newFixture(t)
	uid := f.addPod("web", "n1")
	f.server.Refuse("pods", true)
	f.report("n1", uid, "enrolled", "", 0)
	deadline := time.Now().Add(20 * time.Second)
	for _, failed := f.Stats(); failed == 0; _, failed = f.Stats() {
		if time.Now().After(deadline) {
			t.Fatal("no failure is counted")
		}
		time.Sleep(time.Millisecond)
	}
	f.server.Refuse("pods", false)
	f.until(uid, "enrolled")
	if n := f.server.Requests("PATCH pods"); n > 10 {
		t.Errorf("%d attempts: a hot loop", n)
	}
}

// TestSuccessorIsLeftAlone: a StatefulSet's next pod has the same name.
func TestSuccessorIsLeftAlone(t *testing.T) {
	f := newFixture(t)
	uid := f.addPod("db-0", "n1")
	old := f.Pod(uid)
	f.server.Delete("pods", "shop", "db-0")
	next := f.addPod("db-0", "n1")
	f.mu.Lock()
	f.pods[string(types.UID(uid))] = old // the watch has not told yet
	f.mu.Unlock()
	f.report("n1", uid, "failed", "gone", 0)
	marker := f.addPod("marker", "n1")
	f.report("n1", marker, "enrolled", "", 0)
	f.until(marker, "enrolled")
	if a := f.annotations(next); a[mesh.AnnotationStatus] != "" {
		t.Errorf("the successor has its predecessor's status: %v", a)
	}
}
