package server

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/client"
	"github.com/underlane/underlane/pkg/state"
)

// journal is an Observer that writes down what it hears.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) AgentConnected(a AgentInfo) {
	j.add("%s connected, version %s", a.Node, a.Version)
}

func (j *journal) PodsReported(node string, pods []control.PodStatus) {
	for _, p := range pods {
		j.add("%s: %s %q %q %d", node, p.UID, p.State, p.Reason, p.PreMesh)
	}
}
func (j *journal) AgentDisconnected(node string) { j.add("%s disconnected", node) }

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "\n")
}

func (j *journal) until(t *testing.T, want ...string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for j.text() != strings.Join(want, "\n") {
		if time.Now().After(deadline) {
			t.Fatalf("the observer heard (-want +got)\n%s", cmp.Diff(strings.Join(want, "\n"), j.text()))
		}
		time.Sleep(time.Millisecond)
	}
	j.mu.Lock()
	j.lines = nil
	j.mu.Unlock()
}

func TestAgentsReportTheirPods(t *testing.T) {
	c, j := newController(t), &journal{}
	c.server.opt.Observer = j
	c.publish(nil)
	agent := c.agent("n1", func(o *client.Options) { o.Version = "v1" })
	agent.untilConnected()
	j.until(t, "n1 connected, version v1")

	enrolled, waiting := control.PodStatus{UID: "a", State: "enrolled", PreMesh: 3}, control.PodStatus{UID: "b", State: "pending", Reason: "waiting for its certificate"}
	agent.ReportPods([]control.PodStatus{enrolled, waiting})
	j.until(t, `n1: a "enrolled" "" 3`, `n1: b "pending" "waiting for its certificate" 0`)
	agent.ReportPods([]control.PodStatus{waiting, enrolled}) // nothing new
	agent.ReportPods([]control.PodStatus{enrolled, {UID: "b", State: "enrolled"}})
	j.until(t, `n1: b "enrolled" "" 0`)
	agent.ReportPods([]control.PodStatus{enrolled})
	j.until(t, `n1: b "" "" 0`)

	// What happened without a controller is reported to the next one.
	c.front.Stop()
	j.until(t, "n1 disconnected")
	agent.ReportPods([]control.PodStatus{enrolled, {UID: "c", State: "left-out", Reason: "host network"}})
	c.observer = j
	c.start()
	c.publish(nil)
	j.until(t, "n1 connected, version v1", `n1: a "enrolled" "" 3`, `n1: c "left-out" "host network" 0`)
	agent.stop()
	j.until(t, "n1 disconnected")
}

// A renewed certificate means a new stream: the node is connected throughout.
func TestANodeIsDisconnectedWithItsLastStream(t *testing.T) {
	c, j := newController(t), &journal{}
	c.server.opt.Observer = j
	_, leaveOld := c.server.connected(&syncState{node: "n1"}, &pb.SyncRequest{})
	_, leaveNew := c.server.connected(&syncState{node: "n1"}, &pb.SyncRequest{})
	j.until(t, "n1 connected, version ", "n1 connected, version ")
	leaveOld()
	j.until(t)
	leaveNew()
	j.until(t, "n1 disconnected")
}

func TestReasonsAreBounded(t *testing.T) {
	got := decodeReports([]*pb.PodStatus{{Uid: "a", State: "failed", Reason: strings.Repeat("ä", maxReason)}})
	if want := strings.Repeat("ä", maxReason/2); got[0].Reason != want {
		t.Errorf("%d bytes", len(got[0].Reason))
	}
	got = decodeReports([]*pb.PodStatus{{Reason: "x" + strings.Repeat("ä", maxReason)}})
	if want := "x" + strings.Repeat("ä", maxReason/2-1); got[0].Reason != want {
		t.Errorf("cut within a character: %d bytes", len(got[0].Reason))
	}
}

// Projected tokens are replaced before they expire: each bootstrap needs the
// newest, and one that cannot be read is a failure like any other.
func TestTheTokenIsReadAtEachBootstrap(t *testing.T) {
	c := newController(t)
	c.publish(nil)
	var mu sync.Mutex
	token, err := "", errors.New("no token yet: "+os.ErrNotExist.Error())
	agent := c.agent("n1", func(o *client.Options) {
		o.Token = func() (string, error) { mu.Lock(); defer mu.Unlock(); return token, err }
	})
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(agent.Status().LastError, "no token yet") {
		if time.Now().After(deadline) {
			t.Fatalf("last error %q", agent.Status().LastError)
		}
		time.Sleep(time.Millisecond)
	}
	mu.Lock()
	token, err = c.authority.BootstrapToken("n1"), nil
	mu.Unlock()
	agent.until("synced", (*state.View).Synced)
}
