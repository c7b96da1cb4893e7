package tapapi

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// The API server's connection, and the taps on it, outlast any number of
// strangers.
func TestStrangersAreBounded(t *testing.T) {
	w := newWorld(t)
	a := w.agent("a")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	running := w.get(ctx, "alice", tapv1alpha1.TapPath("shop", "deployments", "web"), tapv1alpha1.MediaProtobuf)
	if running.StatusCode != http.StatusOK {
		t.Fatalf("%s, want 200", running.Status)
	}
	for range maxFromOne + 20 {
		conn, err := net.Dial("tcp", w.server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	for deadline := time.Now().Add(10 * time.Second); w.server.strangers.Evicted() < 20; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody had to go")
		}
	}
	a.Emit(request(a))
	var batch agentv1.TapEvents
	if err := protodelim.UnmarshalFrom(bufio.NewReader(running.Body), &batch); err != nil || len(batch.GetEvents()) != 1 {
		t.Errorf("the tap that ran: %v, %v", batch.GetEvents(), err)
	}
}
