package tapapi

import (
	"errors"
	"net/http"
	"strings"

	"google.golang.org/protobuf/proto"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/tap/feed"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/wire"
)

// tapOf answers taps of one kind of resource. "" stands for all pods of a
// namespace, or of all namespaces.
func (s *Server) tapOf(kind string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		request, target, err := s.readTap(r, kind)
		if err != nil {
			return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		}
		var warnings []string
		warning, err := examine(target, s.opt.Cluster.Workloads(), s.opt.Cluster.Services())
		if err != nil {
			return err
		}
		if warning != "" {
			warnings = append(warnings, warning)
		}
		if request.Headers {
			switch err := s.mayAlso(r, tapv1alpha1.HeadersVerb, "tap the headers of", tapv1alpha1.HeadersClusterRole); {
			case err == nil:
			case r.URL.Query().Get("headers") == tapv1alpha1.HeadersIfAllowed && apierrors.IsForbidden(err):
				request.Headers = false
				warnings = append(warnings, "headers are not shown: "+err.Error())
			default:
				return err
			}
		}
		if n := s.taps.Add(1); n > maxTaps {
			s.taps.Add(-1)
			return failure(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "too many taps are running: end one")
		}
		defer s.taps.Add(-1)
		s.opt.Log.Info("tap begins", "target", request.Target, "namespace", request.Namespace, "to", request.To)
		out := feed.New(w, r.Header.Get("Accept"))
		defer out.Close()
		may := s.mayKnow(r.PathValue("namespace"))
		t := &fanin.Tap{
			Agents: s.agents,
			Request: func() *agentv1.TapRequest {
				current := proto.CloneOf(request)
				current.Pods = target.pods(s.opt.Cluster.Workloads())
				return current
			},
			Nodes: func() []fanin.Node {
				return concerned(target, s.opt.Cluster.Workloads(), s.opt.Cluster.Nodes())
			},
			May: may,
			Started: func() error {
				if err := out.Start(); err != nil || len(warnings) == 0 {
					return err
				}
				return out.Send(&agentv1.TapEvents{Warnings: warnings})
			},
			Send: func(batch *agentv1.TapEvents) error {
				hideNodes(batch, may)
				return out.Send(batch)
			},
		}
		err = t.Run(r.Context())
		s.opt.Log.Info("tap ends", "target", request.Target, "namespace", request.Namespace, "reason", err)
		return nil
	}
}

// readTap reads the request from a call's path and query, and checks it.
func (s *Server) readTap(r *http.Request, kind string) (*agentv1.TapRequest, selection, error) {
	request, all, err := tapv1alpha1.ParseQuery(r.URL.Query())
	if err != nil {
		return nil, selection{}, err
	}
	namespace := r.PathValue("namespace")
	if errs := validation.IsDNS1123Label(namespace); namespace != "" && len(errs) > 0 {
		return nil, selection{}, &badName{namespace, errs}
	}
	switch {
	case kind != "":
		request.Target, request.Namespace = kind+"/"+r.PathValue("name"), namespace
	case all != "":
		request.Target, request.Namespace = all, namespace
	case namespace != "":
		request.Target = "ns/" + namespace
	}
	if _, err := filter.New(wire.Filter(request)); err != nil {
		return nil, selection{}, err
	}
	target, err := filter.ParseResource(request.Target, request.Namespace)
	if err != nil || request.Selector == "" {
		return request, selection{Resource: target}, err
	}
	if target.Kind == filter.KindService {
		return nil, selection{}, errors.New("a service has its own selector: give the workload that has the pods")
	}
	selector, err := labels.Parse(request.Selector)
	return request, selection{target, selector, s.opt.Cluster.Labels}, err
}

type badName struct {
	name string
	errs []string
}

func (b *badName) Error() string {
	return "namespace " + b.name + ": " + strings.Join(b.errs, ", ")
}
