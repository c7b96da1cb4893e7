package tapapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/whatif"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/judged"
	"github.com/underlane/underlane/pkg/policy/rehearse"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// authzCalls answers what authorization policies have decided, and would decide.
type authzCalls struct{ *asker }

// Policies is what the controller knows of authorization policies.
type Policies interface {
	// Objects returns the newest objects. They must not be changed.
	Objects() *translate.Objects
	// Authz returns the policies of a pod, nil if none apply to it.
	Authz(uid string) *authz.Spec
	// Egress returns the EgressNetworks. They must not be changed.
	Egress() []*mesh.EgressNetwork
	// Translation is how the objects are translated.
	Translation() translate.Config
}

// judgedCalls asks the agents for what the policies of their pods have judged. The warnings
// name the nodes that the caller may know of.
func (s *authzCalls) judgedCalls(ctx context.Context, namespace, target string, window time.Duration) ([]*agentv1.CallsResponse, tapv1alpha1.Nodes, []string) {
	nodes, may := s.meshedNodes(), s.mayKnow(namespace)
	r := &agentv1.CallsRequest{Target: target, Namespace: namespace, Window: durationpb.New(window)}
	answers, errs := s.agents.JudgedCalls(ctx, &s.kept, nodes, r)
	out := tapv1alpha1.Nodes{Asked: countKnown(nodes, may)}
	out.Answered = out.Asked
	warnings, unnamed := []string{}, false
	var heard []*agentv1.CallsResponse
	for i, err := range errs {
		switch {
		case err == nil:
			heard = append(heard, answers[i])
		case may == nil || may(nodes[i].Name):
			out.Answered--
			warnings = append(warnings, err.Error())
		default:
			unnamed = true
		}
	}
	if unnamed {
		warnings = append(warnings, unnamedSilent)
	}
	return heard, out, warnings
}

// authzList answers with what policies have decided.
func (s *authzCalls) authzList(w http.ResponseWriter, r *http.Request) error {
	q, err := tapv1alpha1.ParseAuthz(r.URL.Query())
	if err == nil {
		q.Namespace, err = namespaceOf(r, q.Namespace)
	}
	if err == nil {
		_, err = filter.ParseResource(q.Target(), q.Namespace)
	}
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	done, err := s.ask()
	if err != nil {
		return err
	}
	defer done()
	answers, nodes, warnings := s.judgedCalls(r.Context(), q.Namespace, q.Target(), q.Window)
	return writeJSON(w, judged.List(answers, nodes, warnings))
}

// explainAuthz answers what would decide about a call to one kind of resource.
func (s *authzCalls) explainAuthz(kind string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		q, err := tapv1alpha1.ParseAuthzExplain(r.URL.Query())
		q.Namespace, q.To = r.PathValue("namespace"), kind+"/"+r.PathValue("name")
		var from filter.Resource
		if err == nil && q.From != "" {
			q.FromNamespace = cmp.Or(q.FromNamespace, q.Namespace)
			from, err = filter.ParseResource(q.From, q.FromNamespace)
		}
		if err != nil {
			return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		}
		c, _ := r.Context().Value(callerKey{}).(caller)
		if q.From != "" && from.Namespace != c.namespace {
			err := s.mayCall(r.Context(), c.user, resource{
				verb: "get", namespace: from.Namespace, resource: string(from.Kind) + "s", subresource: "authz", name: from.Name,
				whatFor: "ask what may be called by",
			})
			if err != nil {
				return err
			}
		}
		done, err := s.ask()
		if err != nil {
			return err
		}
		defer done()
		answer, err := judged.Explain(&q, &judged.Mesh{
			Workloads: s.opt.Cluster.Workloads(), Services: s.opt.Cluster.Services(),
			Decide: func(server *mesh.Workload, d *agentv1.DecideRequest) (*agentv1.DecideResponse, string, error) {
				return s.decide(r.Context(), server, d)
			},
		})
		if err != nil {
			return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		}
		return writeJSON(w, answer)
	}
}

// decide asks the agent of the server's node, whose policies are in force. If it does not
// answer, the controller's decide.
func (s *authzCalls) decide(ctx context.Context, server *mesh.Workload, r *agentv1.DecideRequest) (*agentv1.DecideResponse, string, error) {
	why := "node " + server.Node + " is not known"
	for _, n := range s.opt.Cluster.Nodes() {
		if n.Name != server.Node {
			continue
		}
		answers, errs := s.agents.Decide(ctx, &s.kept, []fanin.Node{n}, r)
		if errs[0] == nil && answers[0].GetKnown() {
			return answers[0], fmt.Sprintf("the agent of %s, with the policies that are in force there", n.Name), nil
		}
		why = "its agent does not know the pod"
		if errs[0] != nil {
			why = errs[0].Error()
		}
	}
	spec := s.opt.Policies.Authz(server.UID)
	if spec == nil {
		spec = new(authz.Spec)
	}
	rules, _ := authz.CompileWorkload(spec)
	answer := judged.Decide(server, rules, r)
	return answer, "the controller, with the policies that it sends to " + server.Node + " (" + why + ")", nil
}

// callsOf returns the calls of a namespace's pods that are remembered: those that policies
// have judged, and of pods without policies what the figures have.
func (s *authzCalls) callsOf(ctx context.Context, namespace string) (*rehearse.Calls, tapv1alpha1.Nodes, []string, []string, error) {
	answers, nodes, warnings := s.judgedCalls(ctx, namespace, "", tapv1alpha1.AuthzWindow)
	q := rehearse.FiguresQuery(namespace)
	now := time.Now()
	request, err := table.Request(&q, now)
	if err != nil {
		return nil, nodes, nil, nil, err
	}
	figures := table.Merge(&q, s.figuresOf(ctx, s.meshedNodes(), s.mayKnow(namespace), request), s.known(labels.Nothing()), now)
	calls, notes := rehearse.Collect(answers, figures, namespace)
	return calls, nodes, warnings, notes, nil
}

// tryAuthz judges the calls of a namespace by policies that are not applied.
func (s *authzCalls) tryAuthz(w http.ResponseWriter, r *http.Request) error {
	manifest, err := io.ReadAll(http.MaxBytesReader(w, r.Body, whatif.MaxManifest))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			err = fmt.Errorf("the manifest is too large: at most %d bytes", large.Limit)
		}
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	done, err := s.ask()
	if err != nil {
		return err
	}
	defer done()
	namespace := r.PathValue("namespace")
	calls, nodes, warnings, notes, err := s.callsOf(r.Context(), namespace)
	if err != nil {
		return err
	}
	report, err := s.whatif().Try(manifest, namespace, calls)
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	report.Nodes, report.Warnings, report.Notes = nodes, warnings, append(report.Notes, notes...)
	return writeJSON(w, report)
}

// authzOf answers the questions about the policies of a namespace, by the last part of the path.
func (s *authzCalls) authzOf(w http.ResponseWriter, r *http.Request) error {
	if r.PathValue("name") == tapv1alpha1.AuthzAccessName {
		return s.accessAuthz(w, r)
	}
	return s.suggestAuthz(w, r)
}

// accessAuthz answers who may connect to the workloads of a namespace. Clients of other
// namespaces are told to users who may see what policies decide in all of them.
func (s *authzCalls) accessAuthz(w http.ResponseWriter, r *http.Request) error {
	if len(r.URL.Query()) > 0 {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, "the question has no parameters")
	}
	done, err := s.ask()
	if err != nil {
		return err
	}
	defer done()
	namespace := r.PathValue("namespace")
	c, _ := r.Context().Value(callerKey{}).(caller)
	all, err := s.allows(r.Context(), c.user, resource{verb: "list", resource: "authz"})
	if err != nil {
		return err
	}
	m := &judged.AccessMesh{
		Workloads: s.opt.Cluster.Workloads(), Services: s.opt.Cluster.Services(),
		Spec:        func(w *mesh.Workload) (*authz.Spec, bool) { return s.opt.Policies.Authz(w.UID), true },
		By:          "the controller, with the policies that it sends to the agents",
		KnowsEgress: true, Egress: s.opt.Policies.Egress(), Routes: s.opt.Cluster.Routes(),
	}
	if !all {
		m.Workloads = slices.DeleteFunc(slices.Clone(m.Workloads), func(w *mesh.Workload) bool { return w.Namespace != namespace })
	}
	out := judged.Access(namespace, m)
	if !all {
		out.Notes = append(out.Notes, "workloads of other namespaces are left out: you may not see all namespaces")
	}
	return writeJSON(w, out)
}

// suggestAuthz writes the policies that the calls of a namespace need.
func (s *authzCalls) suggestAuthz(w http.ResponseWriter, r *http.Request) error {
	lang, err := tapv1alpha1.ParseAuthzSuggest(r.URL.Query())
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	done, err := s.ask()
	if err != nil {
		return err
	}
	defer done()
	calls, nodes, warnings, notes, err := s.callsOf(r.Context(), r.PathValue("namespace"))
	if err != nil {
		return err
	}
	out, err := s.whatif().Suggest(lang, calls)
	if err != nil {
		return err
	}
	out.Nodes, out.Warnings, out.Notes = nodes, warnings, append(out.Notes, notes...)
	return writeJSON(w, out)
}

func (s *authzCalls) whatif() *whatif.State {
	return &whatif.State{Objects: s.opt.Policies.Objects(), Config: s.opt.Policies.Translation()}
}
