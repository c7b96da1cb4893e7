package linkerdpolicy

import (
	"bytes"
	"encoding/json"
	"errors"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/underlane/underlane/pkg/policy/authz"
)

// ServerAuthorization is a resource of policy.linkerd.io: the older form of an
// AuthorizationPolicy, with a Server or several of them as target.
type ServerAuthorization struct {
	Namespace, Name string
	Spec            struct {
		Server struct {
			Name     string          `json:"name"`
			Selector json.RawMessage `json:"selector"` // of Servers, where Name is empty
		} `json:"server"`
		Client struct {
			Networks        []Network `json:"networks"` // none: those of the cluster
			Unauthenticated bool      `json:"unauthenticated"`
			MeshTLS         *struct {
				UnauthenticatedTLS bool     `json:"unauthenticatedTLS"`
				Identities         []string `json:"identities"`
				ServiceAccounts    []struct {
					Namespace string `json:"namespace"`
					Name      string `json:"name"`
				} `json:"serviceAccounts"`
			} `json:"meshTLS"`
		} `json:"client"`
	}
	Unknown []string
}

// olderFor returns the ServerAuthorizations of a Server, as policies.
func (o *Objects) olderFor(s *Server) (out []authz.Policy, problems []authz.Problem) {
	for _, i := range o.places().older[s.Namespace] {
		a := &o.Older[i]
		name := "ServerAuthorization." + Group + " " + a.Namespace + "/" + a.Name
		selects, err := a.selects(s)
		if err != nil {
			problems = append(problems, authz.Problem{Policy: name, Field: "spec.server", Text: err.Error()})
		}
		if !selects {
			continue
		}
		policy := authz.Policy{Name: name, Action: authz.ActionAllow, Unknown: a.Unknown}
		if from, err := a.sources(o); err != nil {
			problems = append(problems, authz.Problem{Policy: name, Field: "spec.client", Text: err.Error()})
		} else {
			policy.Rules = []authz.Rule{{From: from}}
		}
		out = append(out, policy)
	}
	return out, problems
}

// selects reports whether the authorization is about a Server. What is not understood is
// about none: it would let clients in.
func (a *ServerAuthorization) selects(s *Server) (bool, error) {
	text := a.Spec.Server.Selector
	has := len(text) > 0 && !bytes.Equal(text, []byte("null"))
	switch {
	case a.Spec.Server.Name != "" && has:
		return false, errors.New("it has both a name and a selector")
	case a.Spec.Server.Name != "":
		return a.Spec.Server.Name == s.Name, nil
	case !has:
		return false, errors.New("it has neither a name nor a selector")
	}
	selector, err := ReadSelector(text)
	if err != nil {
		return false, err
	}
	return selector.Matches(labels.Set(s.Labels)), nil
}

// ReadSelector reads a label selector. A field that is not known is an error.
func ReadSelector(text []byte) (labels.Selector, error) {
	var s metav1.LabelSelector
	if unknown := read(text, &s); len(unknown) > 0 {
		return nil, errors.New(unknown[0])
	}
	return metav1.LabelSelectorAsSelector(&s)
}

// sources returns the clients.
func (a *ServerAuthorization) sources(o *Objects) ([]authz.Source, error) {
	c := &a.Spec.Client
	networks, err := readNetworks(c.Networks)
	if err != nil {
		return nil, err
	}
	if len(networks) == 0 {
		for _, p := range o.Cluster {
			networks = append(networks, authz.Network{CIDR: p})
		}
	}
	if len(networks) == 0 {
		return nil, errors.New("the networks of the cluster are not known")
	}
	var out []authz.Source
	switch {
	case c.Unauthenticated:
		out = []authz.Source{{}}
	case c.MeshTLS == nil:
		return nil, errors.New("it says nothing of the authentication of clients")
	case c.MeshTLS.UnauthenticatedTLS:
		out = []authz.Source{{Authentication: authz.Authenticated}} // a client with mTLS has an identity here
	default:
		for _, id := range c.MeshTLS.Identities {
			s, err := identity(id)
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		}
		for _, sa := range c.MeshTLS.ServiceAccounts {
			if sa.Name == "" || sa.Name == "*" {
				return nil, errors.New("a service account without a name")
			}
			if sa.Namespace == "" {
				sa.Namespace = a.Namespace
			}
			out = append(out, account(sa.Namespace, sa.Name))
		}
	}
	if len(out) == 0 {
		return nil, errors.New("it has no clients")
	}
	for i := range out {
		out[i].Networks = networks
	}
	return out, nil
}
