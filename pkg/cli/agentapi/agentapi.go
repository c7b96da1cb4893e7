// Package agentapi answers the paths of tap.underlane.io without a controller: it asks
// agents over their sockets. The dashboard of a node uses it, and that of a lab.
//
// It knows what the agents know. Paths whose answers only the controller has are not
// found.
package agentapi

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/figures/wire"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// Agent is the agent of one node.
type Agent struct {
	Node   string // name; "" if only the agent itself knows it
	Client Client
	// Explain turns an error of Client into one that is written for users.
	Explain func(error) error
}

// Client is a client of the node API.
type Client interface {
	agentv1.NodeClient
	agentv1.PodResourcesClient
	agentv1.OpenConnectionsClient
	agentv1.AuthorizationClient
}

// services implements Client.
type services struct {
	agentv1.NodeClient
	agentv1.PodResourcesClient
	agentv1.OpenConnectionsClient
	agentv1.AuthorizationClient
}

// NewClient returns a client that uses conn.
func NewClient(conn grpc.ClientConnInterface) Client {
	return services{agentv1.NewNodeClient(conn), agentv1.NewPodResourcesClient(conn), agentv1.NewOpenConnectionsClient(conn), agentv1.NewAuthorizationClient(conn)}
}

// API asks agents. Its zero value asks none.
type API struct {
	Agents []Agent // one for a node alone, or all of a mesh
	// Pods returns the pods of a node whose agent does not answer, from another source. nil:
	// there is none, and any resource may have pods there.
	Pods func(node string) []*mesh.Workload
}

const (
	callTimeout = 5 * time.Second
	// maxMessage allows for the dump of a large node.
	maxMessage = 256 << 20
)

// Dial opens the node API at a socket. It connects at the first call, and again when the
// agent was restarted.
func Dial(socket string) (Client, func(), error) {
	conn, err := grpc.NewClient("unix:"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		// A person waits for an agent that comes back.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5, MaxDelay: time.Second}, MinConnectTimeout: callTimeout,
		}))
	if err != nil {
		return nil, nil, fmt.Errorf("open agent socket %s: %w", socket, err)
	}
	return NewClient(conn), func() { _ = conn.Close() }, nil
}

// Figures answers q with what the agents remember. An agent that does not answer is in
// the warnings; the error is that no agent has answered, or a mistake in q.
func (a *API) Figures(ctx context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.Figures, error) {
	now := time.Now()
	answers, known, err := a.remembered(ctx, &q, now, false)
	if err != nil {
		return nil, err
	}
	return table.Merge(&q, answers, known, now), nil
}

// remembered asks the agents for what q is about, and for the pods that they know.
func (a *API) remembered(ctx context.Context, q *tapv1alpha1.FiguresQuery, now time.Time, routes bool) (*table.Answers, *table.Known, error) {
	complete, err := tapv1alpha1.ParseFigures(q.Values())
	if err != nil {
		return nil, nil, &badRequest{err}
	}
	*q = complete
	r, err := table.Request(q, now)
	if err != nil {
		return nil, nil, &badRequest{err}
	}
	selector, err := filter.ParseSelector(q.Selector)
	if err != nil {
		return nil, nil, &badRequest{err}
	}
	if r.Routes, r.Pods = routes, true; routes { // others only mark what is selected
		r.Selector = q.Selector
	}
	pod := func(p *agentv1.FiguresPod) table.Pod {
		selected := len(selector) > 0 && selector.Matches(mesh.Labels(p.GetLabels()))
		return table.Pod{End: wire.FromEnd(p.GetEnd()), Ready: p.GetReady(), Selected: selected}
	}
	// The servers' reports are for stat, whose rows are of this node. Otherwise what pods
	// of other nodes send here counts, too: their agents are not asked.
	r.Alone = len(a.Agents) == 1 && q.Side == tapv1alpha1.SideSource

	// An agent that is silent does not name its pods either.
	answers, known := &table.Answers{Asked: len(a.Agents), Blind: a.Pods == nil}, &table.Known{}
	var heard []Agent
	var silent error
	responses, errs := each(ctx, a.Agents, func(ctx context.Context, c Client) (*agentv1.FiguresResponse, error) {
		return c.Figures(ctx, r)
	})
	for i, err := range errs {
		if err != nil {
			silent = err
			answers.Silent = append(answers.Silent, a.Agents[i].Node)
			answers.Warnings = append(answers.Warnings, warning(a.Agents[i].Node, err))
			if a.Pods != nil {
				for _, w := range a.Pods(a.Agents[i].Node) {
					known.Pods = append(known.Pods, pod(wire.Pod(w)))
				}
			}
			continue
		}
		heard = append(heard, a.Agents[i])
		answers.Results = append(answers.Results, wire.FromProto(responses[i]))
		for _, p := range responses[i].GetPods() {
			known.Pods = append(known.Pods, pod(p))
		}
	}
	if len(heard) == 0 {
		return nil, nil, silent
	}
	if len(answers.Silent) > 0 {
		again := table.InsteadOf(r, answers.Silent)
		responses, errs = each(ctx, heard, func(ctx context.Context, c Client) (*agentv1.FiguresResponse, error) {
			return c.Figures(ctx, again)
		})
		for i, err := range errs {
			if err == nil {
				answers.Results = append(answers.Results, wire.FromProto(responses[i]))
			}
		}
	}
	return answers, known, nil
}

// badRequest is an error that the caller has made.
type badRequest struct{ error }

func warning(node string, err error) string {
	if node == "" {
		return err.Error()
	}
	return fmt.Sprintf("%s: %v", node, err)
}

// each calls all agents at once. There is an answer or an error for each of them.
func each[A any](ctx context.Context, agents []Agent, call func(context.Context, Client) (A, error)) ([]A, []error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answers, errs := make([]A, len(agents)), make([]error, len(agents))
	var wg sync.WaitGroup
	for i, agent := range agents {
		wg.Go(func() {
			var err error
			if answers[i], err = call(ctx, agent.Client); err != nil {
				errs[i] = agent.explain(err)
			}
		})
	}
	wg.Wait()
	return answers, errs
}

func (a *Agent) explain(err error) error {
	if a.Explain != nil {
		return a.Explain(err)
	}
	return fmt.Errorf("its agent does not answer: %s", status.Convert(err).Message())
}
