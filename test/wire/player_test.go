package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/wire/script"
)

// player is a `labtest play` in a pod.
type player struct {
	pod    string
	orders *json.Encoder

	mu   sync.Mutex
	jobs map[int]chan script.Event
	gone error // why it ended
}

func startPlayer(t *testing.T, l *lab.Lab, pod string) *player {
	t.Helper()
	cmd := l.PodCommand(pod, "labtest", "play")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &player{pod: pod, orders: json.NewEncoder(in), jobs: map[int]chan script.Event{}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := p.listen(json.NewDecoder(out))
		p.end(errors.Join(err, wait(cmd, &stderr)))
	}()
	t.Cleanup(func() {
		_ = in.Close()
		<-ended
	})
	return p
}

func wait(cmd *exec.Cmd, stderr *strings.Builder) error {
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, stderr.String())
	}
	return nil
}

func (p *player) listen(events *json.Decoder) error {
	for {
		var e script.Event
		if err := events.Decode(&e); err != nil {
			return err
		}
		p.mu.Lock()
		ch := p.jobs[e.Job]
		p.mu.Unlock()
		if ch != nil {
			ch <- e
		}
	}
}

func (p *player) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = fmt.Errorf("the player in %s ended: %w", p.pod, err)
	for _, ch := range p.jobs {
		close(ch)
	}
	p.jobs = nil
}

// order gives an order, the first of a job with the channel for its events.
func (p *player) order(o script.Order, events chan script.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone != nil {
		return p.gone
	}
	if events != nil {
		p.jobs[o.Job] = events
	}
	return p.orders.Encode(o)
}

func (p *player) forget(job int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.jobs, job)
}

// scene is a pair of scripts on the way from one player to another.
type scene struct {
	client, server *player
	addr           string // of the server
	port           int
	limit          time.Duration
}

// seen is what the two ends of a scene saw.
type seen struct{ client, server []script.Note }

// play plays a pair of scripts. Its bound is that of the scripts' steps.
func (r *scene) play(clientScript, serverScript string) (s seen, err error) {
	job := r.port // one job a port
	clientEvents, serverEvents := make(chan script.Event, 64), make(chan script.Event, 64)
	defer r.client.forget(job)
	defer r.server.forget(job)
	o := script.Order{Job: job, Role: "server", Port: r.port, Script: serverScript, Limit: r.limit}
	if err := r.server.order(o, serverEvents); err != nil {
		return s, err
	}
	patience := time.NewTimer(2 * time.Minute)
	defer patience.Stop()
	for open := 2; open > 0; {
		var e script.Event
		var ok, ofClient bool
		select {
		case e, ok = <-serverEvents:
		case e, ok = <-clientEvents:
			ofClient = true
		case <-patience.C:
			return s, errors.New("the scripts do not end: is there a loop without a limit?")
		}
		if !ok {
			return s, errors.New("a player ended")
		}
		if e.Error != "" {
			return s, errors.New(e.Error)
		}
		switch {
		case e.Listening:
			o := script.Order{Job: job, Role: "client", Addr: r.addr, Script: clientScript, Limit: r.limit}
			err = r.client.order(o, clientEvents)
		case e.Tell != "" && ofClient:
			err = r.server.order(script.Order{Job: job, Tell: e.Tell}, nil)
		case e.Tell != "":
			err = r.client.order(script.Order{Job: job, Tell: e.Tell}, nil)
		case e.Through:
			err = r.server.order(script.Order{Job: job, Finish: true}, nil)
		case e.Done && ofClient:
			s.client = e.Notes
			open--
		case e.Done:
			s.server = e.Notes
			open--
			err = r.client.order(script.Order{Job: job, Finish: true}, nil)
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}
