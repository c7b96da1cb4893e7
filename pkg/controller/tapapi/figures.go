package tapapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/figures/wire"
)

// figures answers with what the agents remember, of all namespaces or of that in the path.
func (s *Server) figures(w http.ResponseWriter, r *http.Request) error {
	now := time.Now()
	q, request, err := readFigures(r, now)
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	selector, err := labels.Parse(q.Selector)
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, "parameter labelSelector: "+err.Error())
	}
	answers, err := s.askAgents(r.Context(), request)
	if err != nil {
		return err
	}
	return writeJSON(w, table.Merge(&q, answers, s.known(selector), now))
}

// maxAsked bounds the questions that are answered at once: each is a call to every agent.
const maxAsked = 32

func readFigures(r *http.Request, now time.Time) (q tapv1alpha1.FiguresQuery, request *agentv1.FiguresRequest, err error) {
	if q, err = tapv1alpha1.ParseFigures(r.URL.Query()); err != nil {
		return q, nil, err
	}
	// RBAC has allowed the namespace of the path. A parameter must not lead out of it.
	if namespace := r.PathValue("namespace"); namespace != "" {
		if errs := validation.IsDNS1123Label(namespace); len(errs) > 0 {
			return q, nil, &badName{namespace, errs}
		}
		if q.Namespace != "" && q.Namespace != namespace {
			return q, nil, errors.New("parameter namespace: the path has another one")
		}
		q.Namespace = namespace
	}
	request, err = table.Request(&q, now)
	return q, request, err
}

// askAgents asks the agents of all nodes with meshed pods. If some do not answer, it asks
// the others for what they know of the same calls. It refuses a question while too many
// are being answered.
func (s *Server) askAgents(ctx context.Context, request *agentv1.FiguresRequest) (*table.Answers, error) {
	defer s.asked.Add(-1)
	if s.asked.Add(1) > maxAsked {
		return nil, failure(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "too many questions for figures are being answered: try again")
	}
	nodes := s.meshedNodes()
	answers := &table.Answers{Asked: len(nodes)}
	var heard []fanin.Node
	responses, errs := s.agents.Figures(ctx, &s.kept, nodes, request)
	for i, err := range errs {
		if err != nil {
			answers.Silent = append(answers.Silent, nodes[i].Name)
			answers.Warnings = append(answers.Warnings, err.Error())
			continue
		}
		heard = append(heard, nodes[i])
	}
	answers.Results = results(responses)
	if len(answers.Silent) > 0 {
		responses, _ = s.agents.Figures(ctx, &s.kept, heard, table.InsteadOf(request, answers.Silent))
		answers.Results = append(answers.Results, results(responses)...)
	}
	return answers, nil
}

func results(responses []*agentv1.FiguresResponse) (out []*figures.Result) {
	for _, m := range responses {
		if m != nil {
			out = append(out, wire.FromProto(m))
		}
	}
	return out
}

func (s *Server) meshedNodes() []fanin.Node {
	meshed := map[string]bool{}
	for _, w := range s.opt.Cluster.Workloads() {
		if w.Meshed {
			meshed[w.Node] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(s.opt.Cluster.Nodes()), func(n fanin.Node) bool { return !meshed[n.Name] })
}

// known returns the pods and Services of the cluster. An empty selector selects no pod.
func (s *Server) known(selector labels.Selector) *table.Known {
	known := &table.Known{}
	for _, w := range s.opt.Cluster.Workloads() {
		known.Pods = append(known.Pods, table.Pod{
			End: figures.EndOf(w), Ready: w.Ready,
			Selected: !selector.Empty() && selector.Matches(labels.Set(s.opt.Cluster.Labels(w.UID))),
		})
	}
	for _, svc := range s.opt.Cluster.Services() {
		known.Services = append(known.Services, figures.Service{Namespace: svc.Namespace, Name: svc.Name})
	}
	return known
}
