package why

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
)

// TryRequest returns what to ask of the agent of the client's node. The error says why no
// connection can be made in the client's name.
func (a *Answer) TryRequest(q *tapv1alpha1.WhyQuery) (*agentv1.TryRequest, error) {
	switch {
	case a.Client == nil:
		return nil, errors.New("there is no pod that could make it")
	case !a.Destination.IsValid():
		return nil, errors.New("the destination has no address")
	case !a.Client.Meshed:
		return nil, fmt.Errorf("pod %s is not in the mesh, so that the agent has no socket in its network namespace: try it in the pod", a.Client.Name)
	}
	r := &agentv1.TryRequest{Pod: a.Client.UID, Destination: a.Destination.String(), Authority: q.Authority}
	switch q.Try {
	case tapv1alpha1.TryTLS:
		r.Protocol = agentv1.TryRequest_TLS
	case tapv1alpha1.TryHTTP, tapv1alpha1.TryHTTP2:
		r.Protocol, r.Path, r.Method = agentv1.TryRequest_HTTP, cmp.Or(q.Path, "/"), cmp.Or(q.Method, http.MethodGet)
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return nil, fmt.Errorf("only GET and HEAD are tried, because %s may change something", r.Method)
		}
		if q.Try == tapv1alpha1.TryHTTP2 || a.http2 {
			r.Protocol = agentv1.TryRequest_HTTP2
		}
	}
	return r, nil
}

// speaksHTTP2 reports whether the port that is called speaks HTTP/2 without TLS. The
// Service's appProtocol says so (KEP-3726 names kubernetes.io/h2c), or the name of its port,
// as Istio reads it. If neither names a protocol, it is what the last minute's requests used.
func (x *inquiry) speaksHTTP2() bool {
	if x.q.GRPC {
		return true
	}
	for _, t := range x.targets {
		if t.port == nil {
			continue
		}
		prefix, _, _ := strings.Cut(t.port.Name, "-")
		for _, protocol := range []string{t.port.AppProtocol, prefix} {
			switch strings.ToLower(protocol) {
			case "grpc", "http2", "h2c", "kubernetes.io/h2c":
				return true
			case "http", "kubernetes.io/ws":
				return false
			}
		}
	}
	seen := false
	if x.facts.Recent != nil {
		for _, e := range x.facts.Recent.Edges {
			if e.Total == nil || e.Total.Requests == 0 || x.service != nil && e.Service != nil && (e.Service.Namespace != x.service.Namespace || e.Service.Name != x.service.Name) {
				continue
			}
			switch e.Protocol {
			case "http2", "grpc":
				seen = true
			case "http1":
				return false
			}
		}
	}
	return seen
}

// NotTried adds the step of a connection that was not made.
func (a *Answer) NotTried(err error) {
	a.Steps = append(a.Steps, tapv1alpha1.WhyStep{
		Name: "try", Result: tapv1alpha1.WhyUnknown, Text: fmt.Sprintf("No connection was made: %s.", err), Evidence: []string{},
	})
}

// Tried adds the step of the connection that was made, and concludes from it.
func (a *Answer) Tried(q *tapv1alpha1.WhyQuery, r *agentv1.TryResponse) {
	took := r.GetTook().AsDuration().Round(10 * time.Microsecond)
	s := step("try", tapv1alpha1.WhyOK, "A connection of pod %s to %s was made, in %s.", a.Client.Name, a.Destination, took)
	if status := r.GetStatus(); status != 0 {
		s.Text = fmt.Sprintf("A request of pod %s to %s was answered with status %d, in %s.", a.Client.Name, a.Destination, status, took)
		// These are what a gRPC server answers to GET: it works.
		grpc := (a.http2 || q.Try == tapv1alpha1.TryHTTP2) && (status == http.StatusMethodNotAllowed || status == http.StatusUnsupportedMediaType)
		if grpc {
			say(&s, "a gRPC server answers so to GET, which calls no method")
		}
		if status >= 400 && !grpc {
			s.Result = tapv1alpha1.WhyWarning
		}
		if status >= 500 {
			s.Result = tapv1alpha1.WhyProblem
		}
	}
	if text := r.GetError(); text != "" {
		s = step("try", tapv1alpha1.WhyProblem, "A connection of pod %s to %s failed after %s: %s.", a.Client.Name, a.Destination, took, text)
	}
	if text := r.GetReason(); text != "" {
		s.Result = tapv1alpha1.WhyProblem
		say(&s, "tap: it failed with %s: %s", text, mesh.ParseReason(text).Text())
	}
	if text := r.GetCertificate(); text != "" {
		say(&s, "%s", text)
	}
	if rep := r.GetReport(); rep != nil {
		where := rep.GetEndpoint()
		if rep.GetPod() != "" {
			where = fmt.Sprintf("pod %s (%s)", rep.GetPod(), where)
		}
		say(&s, "tap: it went to %s with tls=%s", where, rep.GetTls())
		if rep.GetRoute() != "" {
			say(&s, "tap: %s, rule %s", rep.GetRoute(), rep.GetRule())
		}
	} else {
		worsen(&s, tapv1alpha1.WhyWarning)
		say(&s, "the agent's tap has not seen it: it was not captured")
	}
	a.Steps = append(a.Steps, s)
	if s.Result == tapv1alpha1.WhyProblem {
		a.Works, a.Conclusion = false, "The call does not work: it was tried. "+s.Text
		return
	}
	a.Works, a.Conclusion = true, "The call works: it was tried."
}
