package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/lab/layout"
)

// handler serves the API. stop brings the lab down.
func (c *cluster) handler(stop func()) http.Handler {
	mux := http.NewServeMux()
	handle(mux, "state", func(context.Context, struct{}) (api.State, error) { return c.state(), nil })
	handle(mux, "apply", func(_ context.Context, r api.Files) (api.Warnings, error) {
		warnings, err := c.apply(r.Files)
		return api.Warnings{Warnings: warnings}, err
	})
	handle(mux, "delete", func(_ context.Context, r api.Files) (struct{}, error) { return struct{}{}, c.remove(r.Files) })
	handle(mux, "delete-target", func(_ context.Context, r api.Target) (struct{}, error) { return struct{}{}, c.removeTarget(r) })
	handle(mux, "mark", func(_ context.Context, r api.Mark) (struct{}, error) { return struct{}{}, c.mark(r) })
	handle(mux, "scale", func(_ context.Context, r api.Scale) (struct{}, error) {
		return struct{}{}, c.scale(r.Target, r.Replicas)
	})
	handle(mux, "signal", func(ctx context.Context, r api.Signal) (struct{}, error) {
		return struct{}{}, c.signalProcess(ctx, r.Process, r.Signal)
	})
	handle(mux, "start", func(ctx context.Context, r api.Start) (struct{}, error) {
		err := c.startProcess(r.Process)
		if err == nil && r.Process != controllerProcess {
			err = c.awaitAgent(ctx, r.Process)
		}
		return struct{}{}, err
	})
	handle(mux, "wait", func(ctx context.Context, r api.Wait) (struct{}, error) { return struct{}{}, c.await(ctx, r.Timeout) })
	handle(mux, "shutdown", func(context.Context, struct{}) (struct{}, error) {
		time.AfterFunc(10*time.Millisecond, stop) // usually after the answer has been sent; nothing breaks otherwise
		return struct{}{}, nil
	})
	return mux
}

func handle[Q, A any](mux *http.ServeMux, method string, f func(context.Context, Q) (A, error)) {
	mux.HandleFunc("POST /"+method, func(w http.ResponseWriter, r *http.Request) {
		var q Q
		err := json.NewDecoder(r.Body).Decode(&q)
		var a A
		if err == nil {
			a, err = f(r.Context(), q)
		}
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			w.WriteHeader(http.StatusUnprocessableEntity)
			json.NewEncoder(w).Encode(api.Error{Error: err.Error()})
			return
		}
		json.NewEncoder(w).Encode(a)
	})
}

// await returns when all pods are ready or completed and all running agents are
// ready. It gives up early if something cannot become ready.
func (c *cluster) await(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		waiting, hopeless := c.unready()
		if len(waiting) == 0 {
			break
		}
		if hopeless {
			return errors.New(strings.Join(waiting, "\n"))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready after %s:\n%s", patience, strings.Join(waiting, "\n"))
		case <-time.After(pollUnready / 2):
		}
	}
	for n := 1; n <= c.opts.Nodes; n++ {
		node := layout.NodeName(n)
		c.mu.Lock()
		running := c.procs[node] != nil && c.procs[node].cmd != nil
		c.mu.Unlock()
		if running {
			if err := c.awaitAgent(ctx, node); err != nil {
				return err
			}
		}
	}
	if err := c.sync(); err != nil {
		return err
	}
	return c.awaitController(ctx) // after that, services lead to these pods
}

// unready describes each pod that is not ready, with the end of its log. hopeless
// says that one of them cannot become ready.
func (c *cluster) unready() (waiting []string, hopeless bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.sortedPods() {
		status, restarts := p.status()
		if isReady(p.obj) || status == "Completed" || status == "Terminating" {
			continue
		}
		hopeless = hopeless || status == "StartError" || status == "Error"
		line := fmt.Sprintf("pod %s/%s on %s: %s, %d restarts", p.obj.Namespace, p.obj.Name, p.obj.Spec.NodeName, status, restarts)
		for _, ct := range p.containers {
			if ct.cmd == nil && ct.why != "" {
				line += fmt.Sprintf(", container %s: %s", ct.spec.Name, ct.why)
			}
		}
		if status == "Running" {
			line += fmt.Sprintf(", but not all of its TCP ports %v are listened on", tcpPorts(&p.obj.Spec))
		}
		waiting = append(waiting, line+logTail(c.layout.PodLog(p.obj.Namespace, p.obj.Name)))
	}
	return waiting, hopeless
}
