// Package apitest is a Kubernetes API server for tests. It implements over HTTP the
// parts that the controller uses, so that tests run the real client-go. A test can
// stop and start it, and make it forget its history or refuse requests.
package apitest

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	authv1 "k8s.io/api/authentication/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/test/ports"
)

// kinds are the resources that are always served.
var kinds = map[string]string{
	"namespaces": "v1/Namespace", "nodes": "v1/Node", "pods": "v1/Pod", "services": "v1/Service",
	"secrets": "v1/Secret", "configmaps": "v1/ConfigMap",
	"endpointslices": "discovery.k8s.io/v1/EndpointSlice", "networkpolicies": "networking.k8s.io/v1/NetworkPolicy",
	"leases": "coordination.k8s.io/v1/Lease",
}

// optional are the resources that are served after Install, in their preferred
// version. Those of policies are named NAME.GROUP.
var optional = func() map[string]string {
	out := map[string]string{}
	for _, r := range slices.Concat(custom.PolicyObjects, custom.ForeignPolicies) {
		out[r.Qualified()] = r.GroupVersions()[0].String() + "/" + r.Kind
	}
	for i := range custom.Resources {
		if r := &custom.Resources[i]; out[r.Qualified()] == "" {
			out[r.Name] = r.GroupVersions()[0].String() + "/" + r.Kind
		}
	}
	return out
}()

// Server is the API server.
type Server struct {
	t    testing.TB
	addr string

	mu       sync.Mutex
	http     *http.Server                 // nil while stopped
	version  int                          // the last resourceVersion
	objects  map[string]map[string]object // by resource, by namespace/name
	history  []event
	oldest   int // watches from an older version get 410 Gone
	changed  chan struct{}
	refused  map[string]bool
	custom   map[string]bool // installed
	requests map[string]int
	review   func(token string, audiences []string) authv1.TokenReviewStatus
}

type object = map[string]any

type event struct {
	version  int
	resource string
	kind     string // ADDED, MODIFIED or DELETED
	object   object
}

// New starts a Server, which stops at the end of the test.
func New(t testing.TB) *Server {
	s := &Server{
		t: t, addr: ports.Reserve(t).String(), version: 1, objects: map[string]map[string]object{}, changed: make(chan struct{}),
		refused: map[string]bool{}, custom: map[string]bool{}, requests: map[string]int{},
	}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start starts the Server again after Stop, with the same state and address.
func (s *Server) Start() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(s.serve)}
	s.mu.Lock()
	s.http = server
	s.mu.Unlock()
	go func() { _ = server.Serve(l) }()
}

// Stop closes every connection and the listener.
func (s *Server) Stop() {
	s.mu.Lock()
	server := s.http
	s.http = nil
	s.mu.Unlock()
	if server != nil {
		_ = server.Close()
	}
}

// Config returns a client configuration for the Server.
func (s *Server) Config() *rest.Config {
	return &rest.Config{Host: "http://" + s.addr, ContentConfig: rest.ContentConfig{ContentType: "application/json"}, QPS: -1}
}

// Client returns a client of the Server.
func (s *Server) Client() kubernetes.Interface {
	s.t.Helper()
	client, err := kubernetes.NewForConfig(s.Config())
	if err != nil {
		s.t.Fatal(err)
	}
	return client
}

// Refuse turns 403 answers for requests for a resource on or off.
func (s *Server) Refuse(resource string, refuse bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[resource] = refuse
}

// Install turns serving a custom resource on or off. A resource of policies is named
// NAME.GROUP.
func (s *Server) Install(resource string, install bool) {
	if optional[resource] == "" {
		s.t.Errorf("there is no custom resource %s", resource)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.custom[resource] = install
	if !install {
		delete(s.objects, resource)
	}
}

func (s *Server) serves(resource string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return kinds[resource] != "" || s.custom[resource]
}

func gvk(resource string) string {
	if kind := kinds[resource]; kind != "" {
		return kind
	}
	return optional[resource]
}

// groups answers with the groups of custom resources.
func (s *Server) groups(w http.ResponseWriter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	groups := []object{}
	for name, installed := range s.custom {
		apiVersion, _ := split(optional[name])
		if group, version := split(apiVersion); installed { // a group that is listed twice does no harm
			of := []object{{"groupVersion": apiVersion, "version": version}}
			groups = append(groups, object{"name": group, "versions": of, "preferredVersion": of[0]})
		}
	}
	reply(w, http.StatusOK, object{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

// discovery answers with the custom resources of a version.
func (s *Server) discovery(w http.ResponseWriter, groupVersion string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resources := []object{}
	for name, installed := range s.custom {
		if apiVersion, kind := split(optional[name]); installed && apiVersion == groupVersion {
			name, _, _ = strings.Cut(name, ".")
			resources = append(resources, object{"name": name, "kind": kind, "namespaced": true, "verbs": []string{"list", "watch"}})
		}
	}
	if len(resources) == 0 {
		fail(w, http.StatusNotFound, "NotFound", groupVersion)
		return
	}
	reply(w, http.StatusOK, object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": groupVersion, "resources": resources})
}

// Forget drops the history: a watch from an older version gets 410 Gone.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history, s.oldest = nil, s.version
}

// Delete deletes an object. It also works while the Server is stopped.
func (s *Server) Delete(resource, namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := target{resource, namespace, name}
	o, exists := s.objects[resource][t.key()]
	if !exists {
		s.t.Errorf("there is no %s %s to delete", resource, t.key())
		return
	}
	delete(s.objects[resource], t.key())
	s.record(t, "DELETED", clone(o))
}

// Requests returns the number of requests of one kind, such as "PATCH pods".
func (s *Server) Requests(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[what]
}

// Review sets the function that answers TokenReviews.
func (s *Server) Review(f func(token string, audiences []string) authv1.TokenReviewStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.review = f
}

// target is the object or the list that a request is for.
type target struct{ resource, namespace, name string }

func (t target) key() string { return t.namespace + "/" + t.name }

// parse splits /api/v1/… and /apis/GROUP/VERSION/…. A subresource stands for its
// object.
func parse(path string) (target, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	skip, group := 2, ""
	if parts[0] == "apis" && len(parts) > 1 {
		skip, group = 3, "."+parts[1]
	}
	if len(parts) <= skip {
		return target{}, false
	}
	parts = parts[skip:]
	var t target
	if len(parts) > 2 && parts[0] == "namespaces" {
		t.namespace, parts = parts[1], parts[2:]
	}
	t.resource = parts[0]
	if optional[t.resource+group] != "" {
		t.resource += group
	}
	if len(parts) > 1 {
		t.name = parts[1]
	}
	return t, true
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	t, ok := parse(r.URL.Path)
	if r.URL.Path == "/apis" {
		s.groups(w)
		return
	}
	if !ok {
		s.discovery(w, strings.TrimPrefix(r.URL.Path, "/apis/"))
		return
	}
	s.mu.Lock()
	s.requests[r.Method+" "+t.resource]++
	refused, review := s.refused[t.resource], s.review
	s.mu.Unlock()
	watch := r.URL.Query().Get("watch")
	switch {
	case refused:
		fail(w, http.StatusForbidden, "Forbidden", t.resource+" is forbidden")
	case t.resource == "tokenreviews" && review != nil:
		answerReview(w, r, review)
	case !s.serves(t.resource):
		fail(w, http.StatusNotFound, "NotFound", t.resource)
	case r.Method == http.MethodGet && (watch == "true" || watch == "1"):
		s.watch(w, r, t)
	case r.Method == http.MethodGet && t.name == "":
		s.list(w, r, t)
	default:
		s.change(w, r, t)
	}
}

func answerReview(w http.ResponseWriter, r *http.Request, review func(string, []string) authv1.TokenReviewStatus) {
	var tr authv1.TokenReview
	if err := json.NewDecoder(r.Body).Decode(&tr); err != nil {
		fail(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	tr.APIVersion, tr.Kind = "authentication.k8s.io/v1", "TokenReview"
	tr.Status = review(tr.Spec.Token, tr.Spec.Audiences)
	reply(w, http.StatusCreated, tr)
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

func fail(w http.ResponseWriter, code int, reason, message string) {
	reply(w, code, object{
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code,
	})
}

func meta(o object) object {
	m, _ := o["metadata"].(object)
	if m == nil {
		m = object{}
		o["metadata"] = m
	}
	return m
}

func (t target) matches(r *http.Request, o object) bool {
	m := meta(o)
	if namespace, _ := m["namespace"].(string); t.namespace != "" && namespace != t.namespace {
		return false
	}
	name, wanted := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	return !wanted || m["name"] == name
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, t target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := []object{}
	for _, o := range s.objects[t.resource] {
		if t.matches(r, o) {
			items = append(items, asked(r, o))
		}
	}
	apiVersion, kind := split(gvk(t.resource))
	if onlyMetadata(r) {
		apiVersion, kind = "meta.k8s.io/v1", "PartialObjectMetadata"
	}
	reply(w, http.StatusOK, object{
		"apiVersion": apiVersion, "kind": kind + "List", "items": items,
		"metadata": object{"resourceVersion": strconv.Itoa(s.version)},
	})
}

// onlyMetadata reports whether the client wants the metadata of objects only.
func onlyMetadata(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata")
}

// asked returns what of an object the client wants.
func asked(r *http.Request, o object) object {
	if !onlyMetadata(r) {
		return o
	}
	return object{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": o["metadata"]}
}

func split(gvk string) (apiVersion, kind string) {
	i := strings.LastIndexByte(gvk, '/')
	return gvk[:i], gvk[i+1:]
}

// since returns the events after version, and a channel that is closed at the next
// event. gone reports that the history no longer goes back to version.
func (s *Server) since(version int) (events []event, more <-chan struct{}, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if version < s.oldest {
		return nil, nil, true
	}
	for _, e := range s.history {
		if e.version > version {
			events = append(events, e)
		}
	}
	return events, s.changed, false
}

func (s *Server) watch(w http.ResponseWriter, r *http.Request, t target) {
	w.Header().Set("Content-Type", "application/json")
	send := func(kind string, o object) {
		_ = json.NewEncoder(w).Encode(object{"type": kind, "object": o})
	}
	version, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		s.mu.Lock()
		version = s.version
		for _, o := range s.objects[t.resource] {
			if t.matches(r, o) {
				send("ADDED", asked(r, o))
			}
		}
		s.mu.Unlock()
		apiVersion, kind := split(gvk(t.resource))
		if onlyMetadata(r) {
			apiVersion, kind = "meta.k8s.io/v1", "PartialObjectMetadata"
		}
		send("BOOKMARK", object{"apiVersion": apiVersion, "kind": kind, "metadata": object{
			"resourceVersion": strconv.Itoa(version), "annotations": object{"k8s.io/initial-events-end": "true"},
		}})
	}
	for {
		events, more, gone := s.since(version)
		if gone {
			send("ERROR", object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": http.StatusGone})
			return
		}
		for _, e := range events {
			version = e.version
			if e.resource == t.resource && t.matches(r, e.object) {
				send(e.kind, asked(r, e.object))
			}
		}
		w.(http.Flusher).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}

func (s *Server) uid() string { return fmt.Sprintf("uid-%d", s.version+1) }
