package tapapi

import (
	"context"
	"errors"
	"fmt"
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
func (s *asker) figures(w http.ResponseWriter, r *http.Request) error {
	now := time.Now()
	q, request, err := readFigures(r, now)
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	selector, err := labels.Parse(q.Selector)
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, "parameter labelSelector: "+err.Error())
	}
	f, err := s.answer(r.Context(), &q, request, selector, now)
	if err != nil {
		return err
	}
	return writeJSON(w, f)
}

// answer answers a question that is allowed, from the history or by asking the agents.
func (s *asker) answer(ctx context.Context, q *tapv1alpha1.FiguresQuery, request *agentv1.FiguresRequest, selector labels.Selector, now time.Time) (*tapv1alpha1.Figures, error) {
	if s.fromHistory(q, now) {
		return s.askHistory(ctx, q, request, s.known(selector), now)
	}
	answers, err := s.askAgents(ctx, q.Namespace, request)
	if err != nil {
		return nil, err
	}
	return table.Merge(q, answers, s.known(selector), now), nil
}

// maxAsked bounds the questions that are answered at once: each is a call to every agent.
const maxAsked = 32

func readFigures(r *http.Request, now time.Time) (q tapv1alpha1.FiguresQuery, request *agentv1.FiguresRequest, err error) {
	if q, err = tapv1alpha1.ParseFigures(r.URL.Query()); err != nil {
		return q, nil, err
	}
	if q.Namespace, err = namespaceOf(r, q.Namespace); err != nil {
		return q, nil, err
	}
	request, err = table.Request(&q, now)
	return q, request, err
}

// namespaceOf returns the namespace that a question is about, "" for all. RBAC has allowed
// that of the path. The parameter, which may be "", must not lead out of it.
func namespaceOf(r *http.Request, parameter string) (string, error) {
	namespace := r.PathValue("namespace")
	if namespace == "" {
		return parameter, nil
	}
	if errs := validation.IsDNS1123Label(namespace); len(errs) > 0 {
		return "", &badName{namespace, errs}
	}
	if parameter != "" && parameter != namespace {
		return "", errors.New("parameter namespace: the path has another one")
	}
	return namespace, nil
}

// ask begins a question to many agents. The caller calls done at its end. The error refuses
// it, because too many are being answered.
func (s *asker) ask() (done func(), err error) {
	done = func() { s.asked.Add(-1) }
	if s.asked.Add(1) > maxAsked {
		done()
		return nil, failure(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "too many questions to the agents are being answered: try again")
	}
	return done, nil
}

// askAgents asks the agents of all nodes with meshed pods. If some do not answer, it asks
// the others for what they know of the same calls. It refuses a question while too many
// are being answered. The answer is about a namespace, "" for all.
func (s *asker) askAgents(ctx context.Context, namespace string, request *agentv1.FiguresRequest) (*table.Answers, error) {
	done, err := s.ask()
	if err != nil {
		return nil, err
	}
	defer done()
	return s.figuresOf(ctx, s.meshedNodes(), s.mayKnow(namespace), request), nil
}

// figuresOf is askAgents for the agents of some nodes. may is that of table.Answers.
func (s *asker) figuresOf(ctx context.Context, nodes []fanin.Node, may func(string) bool, request *agentv1.FiguresRequest) *table.Answers {
	answers := &table.Answers{Asked: countKnown(nodes, may), May: may}
	unnamed := false
	var heard []fanin.Node
	responses, errs := s.agents.Figures(ctx, &s.kept, nodes, request)
	for i, err := range errs {
		if err == nil && request.GetSelector() != "" && !responses[i].GetSelected() {
			err, responses[i] = fmt.Errorf("%s: its agent is of an older version, which does not know the labels of pods", nodes[i].Name), nil
		}
		if err != nil {
			answers.Silent = append(answers.Silent, nodes[i].Name)
			if may == nil || may(nodes[i].Name) {
				answers.Warnings = append(answers.Warnings, err.Error())
			} else {
				unnamed = true
			}
			continue
		}
		heard = append(heard, nodes[i])
	}
	if unnamed {
		answers.Warnings = append(answers.Warnings, unnamedSilent)
	}
	answers.Results = results(responses)
	if len(answers.Silent) > 0 {
		responses, _ = s.agents.Figures(ctx, &s.kept, heard, table.InsteadOf(request, answers.Silent))
		answers.Results = append(answers.Results, results(responses)...)
	}
	return answers
}

func results(responses []*agentv1.FiguresResponse) (out []*figures.Result) {
	for _, m := range responses {
		if m != nil {
			out = append(out, wire.FromProto(m))
		}
	}
	return out
}

func (s *asker) meshedNodes() []fanin.Node {
	meshed := map[string]bool{}
	for _, w := range s.opt.Cluster.Workloads() {
		if w.Meshed {
			meshed[w.Node] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(s.opt.Cluster.Nodes()), func(n fanin.Node) bool { return !meshed[n.Name] })
}

// known returns the pods and Services of the cluster. An empty selector selects no pod.
func (s *asker) known(selector labels.Selector) *table.Known {
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
