package istiopolicy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/pkg/mesh"
)

// Provider is an external authorizer that policies with the action CUSTOM may name.
type Provider struct {
	Name              string
	mesh.ExternalAuth        // without Addrs
	Problem           string // why requests cannot be put to it; "": they can
}

// providerBody is EnvoyExternalAuthorizationRequestBody.
type providerBody struct {
	MaxRequestBytes     uint32 `json:"maxRequestBytes"`
	AllowPartialMessage bool   `json:"allowPartialMessage"`
	// PackAsBytes has no effect: a body that is not UTF-8 comes as bytes.
	PackAsBytes bool `json:"packAsBytes"`
}

// providerCommon are the fields of both protocols.
type providerCommon struct {
	Service       string        `json:"service"`
	Port          uint32        `json:"port"`
	Timeout       string        `json:"timeout"`
	FailOpen      bool          `json:"failOpen"`
	StatusOnError string        `json:"statusOnError"`
	Body          *providerBody `json:"includeRequestBodyInCheck"`
	// ClearRouteCache has no effect: requests have been routed before.
	ClearRouteCache bool `json:"clearRouteCache"`
}

// httpProvider is EnvoyExternalAuthorizationHttpProvider of Istio's MeshConfig.
type httpProvider struct {
	providerCommon
	PathPrefix        string            `json:"pathPrefix"`
	RequestHeaders    []string          `json:"includeRequestHeadersInCheck"`
	OldRequestHeaders []string          `json:"includeHeadersInCheck"`
	AddHeaders        map[string]string `json:"includeAdditionalHeadersInCheck"`
	UpstreamOnAllow   []string          `json:"headersToUpstreamOnAllow"`
	DownstreamOnAllow []string          `json:"headersToDownstreamOnAllow"`
	DownstreamOnDeny  []string          `json:"headersToDownstreamOnDeny"`
}

// grpcProvider is EnvoyExternalAuthorizationGrpcProvider.
type grpcProvider struct{ providerCommon }

// ParseProviders reads extensionProviders of Istio's MeshConfig, a list in YAML or JSON. It
// returns those for external authorization. What is not understood of one is its Problem.
func ParseProviders(text string) (out []Provider, err error) {
	var all []map[string]json.RawMessage
	if err := yaml.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("extension providers: want a list as in Istio's MeshConfig: %w", err)
	}
	for i, fields := range all {
		var name string
		if json.Unmarshal(fields["name"], &name) != nil || name == "" {
			return nil, fmt.Errorf("extension providers: element %d has no name", i)
		}
		if slices.ContainsFunc(out, func(p Provider) bool { return p.Name == name }) {
			return nil, fmt.Errorf("extension providers: two of the name %q", name)
		}
		http, isHTTP := fields["envoyExtAuthzHttp"]
		grpc, isGRPC := fields["envoyExtAuthzGrpc"]
		p := Provider{Name: name}
		switch {
		case isHTTP && isGRPC:
			err = errors.New("both envoyExtAuthzHttp and envoyExtAuthzGrpc")
		case isHTTP:
			err = p.readHTTP(http)
		case isGRPC:
			err = p.readGRPC(grpc)
		default:
			continue // for something else, such as tracing
		}
		if err != nil {
			p.Problem = err.Error()
		}
		out = append(out, p)
	}
	return out, nil
}

func strictly(object json.RawMessage, into any) error {
	unknown, err := kjson.UnmarshalStrict(object, into)
	if err != nil {
		return err
	}
	return errors.Join(unknown...)
}

func (p *Provider) readHTTP(object json.RawMessage) error {
	var in httpProvider
	if err := strictly(object, &in); err != nil {
		return err
	}
	p.RequestHeaders = fieldNames(in.RequestHeaders, in.OldRequestHeaders)
	p.UpstreamHeaders, p.AllowHeaders = fieldNames(in.UpstreamOnAllow), fieldNames(in.DownstreamOnAllow)
	if p.DenyHeaders = fieldNames(in.DownstreamOnDeny); len(p.DenyHeaders) == 0 {
		p.DenyHeaders = mesh.FieldNames{"*"}
	}
	for _, name := range slices.Sorted(maps.Keys(in.AddHeaders)) {
		p.AddHeaders = append(p.AddHeaders, mesh.HeaderField{Name: strings.ToLower(name), Value: in.AddHeaders[name]})
	}
	p.PathPrefix = strings.TrimSuffix(in.PathPrefix, "/")
	if p.PathPrefix != "" && !strings.HasPrefix(p.PathPrefix, "/") {
		return fmt.Errorf("pathPrefix %q does not begin with a slash", in.PathPrefix)
	}
	return p.read(&in.providerCommon)
}

func (p *Provider) readGRPC(object json.RawMessage) error {
	var in grpcProvider
	if err := strictly(object, &in); err != nil {
		return err
	}
	p.GRPC, p.RequestHeaders = true, mesh.FieldNames{"*"}
	return p.read(&in.providerCommon)
}

// maxTimeout bounds the time limit of a question, because requests wait for it.
const maxTimeout = time.Minute

// maxBody bounds the bytes of a request's body that an authorizer sees, because they wait in
// the agent.
const maxBody = 64 << 10

func (p *Provider) read(in *providerCommon) (err error) {
	if p.Service, err = serviceOf(in.Service); err != nil {
		return err
	}
	if in.Port == 0 || in.Port > 65535 {
		return fmt.Errorf("port %d", in.Port)
	}
	p.Service.Port, p.FailOpen = uint16(in.Port), in.FailOpen
	if in.Timeout != "" {
		if p.Timeout, err = time.ParseDuration(in.Timeout); err != nil || p.Timeout <= 0 {
			return fmt.Errorf("timeout %q: want a duration such as 500ms", in.Timeout)
		}
		p.Timeout = min(p.Timeout, maxTimeout)
	}
	if in.StatusOnError != "" {
		if _, err := fmt.Sscanf(in.StatusOnError, "%d", &p.StatusOnError); err != nil || p.StatusOnError < 400 || p.StatusOnError > 599 {
			return fmt.Errorf("statusOnError %q: want 400 to 599", in.StatusOnError)
		}
	}
	if b := in.Body; b != nil {
		if b.MaxRequestBytes == 0 {
			return errors.New("includeRequestBodyInCheck without maxRequestBytes")
		}
		p.MaxBody, p.PartialBody = int(min(b.MaxRequestBytes, maxBody)), b.AllowPartialMessage
	}
	return nil
}

// serviceOf reads [NAMESPACE/]HOST, where HOST is NAME.NAMESPACE[.svc[.DOMAIN]].
func serviceOf(s string) (out mesh.ServicePortRef, err error) {
	namespace, host, found := strings.Cut(s, "/")
	if !found {
		namespace, host = "", s
	}
	name, rest, _ := strings.Cut(host, ".")
	in, domain, _ := strings.Cut(rest, ".")
	if in == "" {
		in = namespace
	}
	if name == "" || in == "" || domain != "" && domain != "svc" && !strings.HasPrefix(domain, "svc.") {
		return out, fmt.Errorf("service %q: want NAME.NAMESPACE.svc.cluster.local, a Service of the cluster", s)
	}
	return mesh.ServicePortRef{Namespace: in, Name: name}, nil
}

func fieldNames(lists ...[]string) (out mesh.FieldNames) {
	for _, list := range lists {
		for _, name := range list {
			out = append(out, strings.ToLower(name))
		}
	}
	return out
}
