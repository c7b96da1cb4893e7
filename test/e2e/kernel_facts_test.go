package e2e

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cgroup"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/wire"
	"github.com/underlane/underlane/test/lab"
)

// facts asks the agent of a node what its pods use, and taps it with the connections that
// carry requests.
type facts struct {
	t      *testing.T
	client agentv1.PodResourcesClient
	events chan tap.Event
}

func factsOf(t *testing.T, l *lab.Lab, node string) *facts {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+nodeOf(t, l, node).Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := agentv1.NewNodeClient(conn).Tap(ctx, &agentv1.TapRequest{Legs: true})
	if err == nil {
		_, err = stream.Header()
	}
	if err != nil {
		cancel()
		t.Fatalf("tap of %s: %v", node, err)
	}
	f := &facts{t: t, client: agentv1.NewPodResourcesClient(conn), events: make(chan tap.Event, 10_000)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			batch, err := stream.Recv()
			if err != nil {
				return
			}
			for _, m := range batch.GetEvents() {
				f.events <- wire.FromProto(m)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = conn.Close()
	})
	return f
}

// wait returns the next event that matches.
func (f *facts) wait(l *lab.Lab, what string, match func(*tap.Event) bool) (found tap.Event) {
	f.t.Helper()
	l.Eventually(patience, func() error {
		for {
			select {
			case e := <-f.events:
				if match(&e) {
					found = e
					return nil
				}
			default:
				return fmt.Errorf("tap does not show %s", what)
			}
		}
	})
	return found
}

// TestFactsOfConnections: where the time of a call went, and what the kernel knew of each
// connection that it passed, on both nodes.
func TestFactsOfConnections(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), serverPod("server", node2)))
	waitEnrolled(t, l, "default/client", "default/server")
	out, in := factsOf(t, l, node1), factsOf(t, l, node2)
	url := "http://" + l.Pod("server").IP().String() + ":7000/"
	l.Exec("client", "labtest", "get", url)
	for side, f := range map[string]*facts{"client's": out, "server's": in} {
		e := f.wait(l, "the end of the call", func(e *tap.Event) bool { return e.Kind == tap.ResponseEnd })
		s := e.Split
		if sum := s.Queue + s.Connect + s.TLS + s.FirstByte + s.Body; sum != e.Duration || s.FirstByte <= 0 || s.Connect <= 0 {
			t.Errorf("%s node: the call took %v: %+v; want parts that add up, with a connection and a first byte", side, e.Duration, s)
		}
		if handshake := s.TLS > 0; handshake != (f == out) {
			t.Errorf("%s node: %v for TLS, want some at the client's only: its agent makes the mTLS connection", side, s.TLS)
		}
	}
	e := out.wait(l, "the end of the client's connection", func(e *tap.Event) bool { return e.Kind == tap.LegClose })
	if e.Side != tap.ClientSide || e.SRTT <= 0 || e.ReadBytes == 0 || e.WriteBytes == 0 || e.Source.Workload == nil || e.Source.Workload.Name != "client" {
		t.Errorf("got %+v, want a round-trip time, bytes both ways, and the client", e)
	}
	l.Exec("client", "labtest", "send", l.Pod("server").IP().String()+":7002", "--bytes", "100000")
	for side, f := range map[string]*facts{"client's": out, "server's": in} {
		e := f.wait(l, "the end of the opaque connection", func(e *tap.Event) bool { return e.Kind == tap.ConnClose })
		switch {
		case e.Legs == nil || e.Legs.Client.SRTT <= 0 || e.Legs.Server.SRTT <= 0:
			t.Errorf("%s node: %+v, want the round-trip times of both sides", side, e.Legs)
		case e.SRTT != e.Legs.Wire(e.Direction).SRTT:
			t.Errorf("%s node: round-trip time %v, want that towards the other node, of %+v", side, e.SRTT, e.Legs)
		case e.Legs.Server.Sent < 100_000 || e.Legs.Client.Received < 100_000:
			t.Errorf("%s node: %+v, want 100000 bytes from the client to the server", side, e.Legs)
		}
	}
}

// TestFactsOfContainers: the agent finds the cgroups of its pods, here by their processes:
// the lab gives them names of its own.
func TestFactsOfContainers(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), serverPod("server", node2)))
	waitEnrolled(t, l, "default/client", "default/server")
	f := factsOf(t, l, node1)
	l.Eventually(patience, func() error {
		l.Exec("client", "labtest", "get", "--duration", "300ms", "--summary", "http://"+l.Pod("server").IP().String()+":7000/")
		r, err := f.client.Resources(t.Context(), &agentv1.ResourcesRequest{})
		if err != nil {
			return err
		}
		pods := r.GetPods()
		if len(pods) != 1 || pods[0].GetName() != "client" || r.GetNode() != node1 || len(r.GetWarnings()) != 0 {
			return fmt.Errorf("got %v, want the pod client, without a warning", r)
		}
		c := pods[0].GetContainers()
		if !cgroup.Known(c.GetKnown()).Has(cgroup.KnowsCPU) || c.GetCpu() <= 0 {
			return fmt.Errorf("its containers: %v, want some processor time", c)
		}
		return nil
	})
}
