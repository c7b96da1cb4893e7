package tapapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// handler answers an authorised call. An error means that it has not answered.
type handler func(w http.ResponseWriter, r *http.Request) error

// routes has all paths of the API. Each names the permission that RBAC must grant.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	alive := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		mux.HandleFunc("GET "+path, alive)
	}
	for path, document := range discovery() {
		mux.HandleFunc("GET "+path, s.document(document))
	}

	authz, why, nodes := &authzCalls{&s.asker}, &whyCalls{&s.asker}, &nodeCalls{&s.asker}
	method := http.MethodGet
	call := func(pattern, verb, what, whatFor, subresource string, h handler) {
		mux.HandleFunc(method+" "+tapv1alpha1.Prefix+pattern, s.call(h, func(r *http.Request) resource {
			role := tapv1alpha1.ClusterRole
			if verb == "create" && subresource == "try" {
				role = tapv1alpha1.TryClusterRole
			}
			return resource{
				role: role, verb: verb, whatFor: whatFor, subresource: subresource,
				namespace: r.PathValue("namespace"), name: r.PathValue("name"), resource: what,
			}
		}))
	}
	for _, kind := range tapv1alpha1.Kinds {
		call("/watch/namespaces/{namespace}/"+kind+"/{name}/tap", "watch", kind, "tap", "tap", s.tapOf(kind))
		call("/namespaces/{namespace}/"+kind+"/{name}/why", "get", kind, "ask why calls work of", "why", why.why(kind, false))
		call("/namespaces/{namespace}/"+kind+"/{name}/authz", "get", kind, "ask who may call", "authz", authz.explainAuthz(kind))
		method = http.MethodPost
		call("/namespaces/{namespace}/"+kind+"/{name}/try", "create", kind, "make connections as", "try", why.why(kind, true))
		method = http.MethodGet
	}
	call("/watch/namespaces/{namespace}/tap", "watch", "tap", "tap", "", s.tapOf(""))
	call("/watch/tap", "watch", "tap", "tap", "", s.tapOf(""))

	call("/figures", "list", "figures", "see", "", s.figures)
	call("/namespaces/{namespace}/figures", "list", "figures", "see", "", s.figures)
	call("/watch/figures", "watch", "figures", "watch", "", s.watchFigures)
	call("/watch/namespaces/{namespace}/figures", "watch", "figures", "watch", "", s.watchFigures)
	call("/routes", "list", "routes", "see", "", s.routeList)
	call("/namespaces/{namespace}/routes", "list", "routes", "see", "", s.routeList)
	call("/resources", "list", "resources", "see", "", s.resourceList)
	call("/namespaces/{namespace}/resources", "list", "resources", "see", "", s.resourceList)
	call("/connections", "list", "connections", "see", "", s.connectionList)
	call("/namespaces/{namespace}/connections", "list", "connections", "see", "", s.connectionList)

	call("/authz", "list", "authz", "see", "", authz.authzList)
	call("/namespaces/{namespace}/authz", "list", "authz", "see", "", authz.authzList)
	call("/namespaces/{namespace}/authz/{name}", "get", "authz", "see", "", authz.authzOf)
	method = http.MethodPost
	call("/namespaces/{namespace}/authz", "create", "authz", "try policies with", "", authz.tryAuthz)
	method = http.MethodGet

	call("/nodes", "list", "nodes", "see", "", nodes.nodes)
	call("/nodes/{name}/status", "get", "nodes", "see the status of", "status", nodes.nodeStatus)
	call("/nodes/{name}/dump", "get", "nodes", "dump", "dump", nodes.nodeDump)
	call("/nodes/{name}/metrics", "get", "nodes", "see metrics of", "metrics", nodes.nodeMetrics)
	call("/costs", "list", "costs", "see", "", nodes.costs)
	call("/endpoints", "list", "endpoints", "see", "", nodes.endpoints)
	call("/state", "list", "state", "see", "", nodes.state)
	call("/metrics", "list", "metrics", "see", "", nodes.metrics)
	mux.HandleFunc("/", s.document(nil))
	return mux
}

// call authenticates and authorises the caller and then calls h.
func (s *access) call(h handler, about func(*http.Request) resource) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u, err := s.authenticate(r)
		what := about(r)
		if err == nil {
			err = s.mayCall(r.Context(), u, what)
		}
		if err == nil {
			err = h(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, caller{u, what})))
		}
		if err != nil {
			s.refuse(w, r, err)
		}
	}
}

// document answers with a constant value. The value reveals nothing about the
// cluster, so the call is authenticated but not authorised: the API server's own
// collector of schemas has no permissions. nil stands for a path that does not
// exist.
func (s *access) document(value any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, err := s.authenticate(r)
		switch {
		case err != nil:
		case value == nil:
			err = failure(http.StatusNotFound, metav1.StatusReasonNotFound, "there is no "+r.URL.Path)
		default:
			err = writeJSON(w, value)
		}
		if err != nil {
			s.refuse(w, r, err)
		}
	}
}

func (s *access) authenticate(r *http.Request) (user, error) {
	u, err := s.front.authenticate(r)
	if err != nil {
		s.count("unauthenticated")
		return user{}, failure(http.StatusUnauthorized, metav1.StatusReasonUnauthorized, err.Error())
	}
	known(r.Context())
	return u, nil
}

func writeJSON(w http.ResponseWriter, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(data, '\n'))
	return err
}

// refuse answers with a Status object, like any Kubernetes server.
func (s *access) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // the caller has disconnected
	}
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	status := known.Status()
	status.Kind, status.APIVersion = "Status", "v1"
	s.opt.Log.Debug("a call of the tap API is refused", "path", r.URL.Path, "code", status.Code, "err", status.Message)
	data, _ := json.Marshal(status)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.Code))
	_, _ = w.Write(append(data, '\n'))
}
