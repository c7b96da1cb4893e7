// Package customclient has API clients for the resources of package custom.
package customclient

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/underlane/underlane/pkg/controller/custom"
)

// Clients has a client for each version of each group.
type Clients struct {
	of       map[schema.GroupVersion]rest.Interface
	metadata metadata.Interface
}

// New makes the clients. They share their connections and limits.
func New(cfg *rest.Config) (*Clients, error) {
	scheme := runtime.NewScheme()
	if err := custom.Install(scheme); err != nil {
		return nil, err
	}
	cfg = rest.CopyConfig(cfg)
	cfg.APIPath = "/apis"
	cfg.NegotiatedSerializer = noticing{serializer.NewCodecFactory(scheme).WithoutConversion()}
	cfg.ContentType, cfg.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON // the API server serves custom resources only as JSON
	http, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("client of custom resources: %w", err)
	}
	only, err := metadata.NewForConfigAndClient(metadata.ConfigFor(cfg), http)
	if err != nil {
		return nil, fmt.Errorf("client of metadata: %w", err)
	}
	c := &Clients{metadata: only, of: map[schema.GroupVersion]rest.Interface{}}
	for i := range custom.Resources {
		for _, gv := range custom.Resources[i].GroupVersions() {
			if c.of[gv] != nil {
				continue
			}
			cfg.GroupVersion = &gv
			if c.of[gv], err = rest.RESTClientForConfigAndClient(cfg, http); err != nil {
				return nil, fmt.Errorf("client of %s: %w", gv, err)
			}
		}
	}
	return c, nil
}

// Of returns the client for a supported version of one of custom.Resources, nil for
// other versions.
func (c *Clients) Of(gv schema.GroupVersion) rest.Interface { return c.of[gv] }

// Metadata returns the client for the metadata of the objects of a resource.
func (c *Clients) Metadata(of schema.GroupVersionResource) metadata.ResourceInterface {
	return c.metadata.Resource(of)
}
