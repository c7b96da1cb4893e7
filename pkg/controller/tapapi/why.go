package tapapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/why"
)

// whyCalls answers why calls between two workloads work, or not.
type whyCalls struct{ *asker }

// maxNodesOfWhy bounds the agents that one question asks for their status: those of the
// client's pods and of the server's. With more, the other nodes count as not asked.
const maxNodesOfWhy = 50

// why answers whether calls of one kind of resource work. With try it makes one.
func (s *whyCalls) why(kind string, try bool) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		q, err := tapv1alpha1.ParseWhy(r.URL.Query())
		q.Namespace, q.From = r.PathValue("namespace"), kind+"/"+r.PathValue("name")
		if err == nil {
			_, _, err = why.Resources(&q)
		}
		if err != nil {
			return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		}
		_, to, _ := why.Resources(&q)
		if err := s.maySeeServer(r, to); err != nil {
			return err
		}
		done, err := s.ask()
		if err != nil {
			return err
		}
		defer done()
		answer, err := why.Explain(&q, s.facts(r.Context(), &q))
		if err != nil {
			return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		}
		if try {
			s.try(r.Context(), &q, answer)
		}
		return writeJSON(w, answer.WhyReport)
	}
}

// maySeeServer asks for the right to see the server, if it is in another namespace than the
// client, of which the path's permission is.
func (s *whyCalls) maySeeServer(r *http.Request, to filter.Resource) error {
	c, _ := r.Context().Value(callerKey{}).(caller)
	if to.Namespace == c.namespace {
		return nil
	}
	return s.mayCall(r.Context(), c.user, resource{
		verb: "get", namespace: to.Namespace, resource: string(to.Kind) + "s", subresource: "why", name: to.Name,
		whatFor: "ask why calls work of",
	})
}

// facts collects what is known of both ends.
func (s *whyCalls) facts(ctx context.Context, q *tapv1alpha1.WhyQuery) *why.Facts {
	f := &why.Facts{Workloads: s.opt.Cluster.Workloads(), Services: s.opt.Cluster.Services(), Routes: s.opt.Cluster.Routes()}
	nodes := s.nodesOf(q, f)
	f.Agents = make(map[string]*why.Agent, len(nodes))
	for _, n := range nodes[min(len(nodes), maxNodesOfWhy):] {
		f.Agents[n.Name] = &why.Agent{Unasked: true}
	}
	nodes = nodes[:min(len(nodes), maxNodesOfWhy)]
	statuses, errs := s.agents.Statuses(ctx, nodes)
	for i, n := range nodes {
		a := &why.Agent{Status: statuses[i]}
		if errs[i] != nil {
			a.Status, a.Err = nil, errs[i].Error()
		}
		f.Agents[n.Name] = a
	}
	s.ejections(ctx, q, f, nodes)
	figures := why.Recent(q)
	now := time.Now()
	request, err := table.Request(&figures, now)
	if err != nil {
		f.RecentErr = err.Error()
		return f
	}
	answers := s.figuresOf(ctx, nodes, nil, request)
	f.Recent = table.Merge(&figures, answers, s.known(labels.Nothing()), now)
	return f
}

// nodesOf returns the nodes of the pods that a question is about, those of the client first.
func (s *whyCalls) nodesOf(q *tapv1alpha1.WhyQuery, f *why.Facts) []fanin.Node {
	client, wanted := map[string]bool{}, map[string]bool{}
	from, to, _ := why.Resources(q)
	for _, w := range f.Workloads {
		if w.Meshed && from.Matches(w) {
			client[w.Node] = true
		}
		if w.Meshed && to.Matches(w) {
			wanted[w.Node] = true
		}
	}
	if to.Kind == filter.KindService {
		for _, svc := range f.Services {
			if s.concerns(svc, to, f.Routes) {
				addNodes(wanted, svc)
			}
		}
	}
	var nodes, others []fanin.Node
	for _, n := range s.opt.Cluster.Nodes() {
		switch {
		case client[n.Name]:
			nodes = append(nodes, n)
		case wanted[n.Name]:
			others = append(others, n)
		}
	}
	return append(nodes, others...)
}

// concerns reports whether svc is the Service, or one to which its routes send requests.
func (s *whyCalls) concerns(svc *mesh.Service, to filter.Resource, routes []*mesh.Route) bool {
	if svc.Name == to.Name && svc.Namespace == to.Namespace {
		return true
	}
	for _, r := range routes {
		if r.Parent.Name != to.Name || r.Parent.Namespace != to.Namespace {
			continue
		}
		for ref := range r.Services() {
			if ref.Name == svc.Name && ref.Namespace == svc.Namespace {
				return true
			}
		}
	}
	return false
}

func addNodes(nodes map[string]bool, svc *mesh.Service) {
	for _, p := range svc.Ports {
		for _, e := range p.Endpoints {
			if e.Workload != nil && e.Workload.Meshed {
				nodes[e.Workload.Node] = true
			}
		}
	}
}

// ejections asks the agents of the client's nodes which endpoints they avoid.
func (s *whyCalls) ejections(ctx context.Context, q *tapv1alpha1.WhyQuery, f *why.Facts, nodes []fanin.Node) {
	from, _, _ := why.Resources(q)
	var wg sync.WaitGroup
	for _, n := range nodes {
		a := f.Agents[n.Name]
		if a.Status == nil || !slices.ContainsFunc(f.Workloads, func(w *mesh.Workload) bool { return w.Node == n.Name && from.Matches(w) }) {
			continue
		}
		wg.Go(func() {
			_ = s.agents.Call(ctx, n, func(ctx context.Context, c agentv1.NodeClient) error {
				r, err := c.Ejections(ctx, &agentv1.EjectionsRequest{}) // an older agent has no such call
				a.Ejections = r.GetEjections()
				return err
			})
		})
	}
	wg.Wait()
}

// try makes a connection in the client's name, and adds what became of it.
func (s *whyCalls) try(ctx context.Context, q *tapv1alpha1.WhyQuery, answer *why.Answer) {
	request, err := answer.TryRequest(q)
	if err != nil {
		answer.NotTried(err)
		return
	}
	for _, n := range s.opt.Cluster.Nodes() {
		if n.Name != answer.Client.Node {
			continue
		}
		var r *agentv1.TryResponse
		err := s.agents.Call(ctx, n, func(ctx context.Context, c agentv1.NodeClient) (err error) {
			r, err = c.Try(ctx, request)
			return err
		})
		s.opt.Log.Info("a connection was tried", "pod", answer.Client.Namespace+"/"+answer.Client.Name, "destination", request.GetDestination(), "err", err)
		if err != nil {
			answer.NotTried(err)
			return
		}
		answer.Tried(q, r)
		return
	}
	answer.NotTried(fmt.Errorf("node %s has no agent", answer.Client.Node))
}
