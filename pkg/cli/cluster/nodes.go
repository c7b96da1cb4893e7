package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// NodeStatuses asks the agents of all nodes for their status, through the
// controller. A node whose agent does not answer is in the second map. When no
// agent could be asked, the first map is empty and the second has one error with
// the key "".
func (c *Flags) NodeStatuses(ctx context.Context) (map[string]*agentv1.StatusResponse, map[string]error) {
	nodes, err := c.nodes(ctx)
	if err != nil {
		return nil, map[string]error{"": err}
	}
	statuses, failed := map[string]*agentv1.StatusResponse{}, map[string]error{}
	for _, n := range nodes {
		if st, err := readStatus(&n); err != nil {
			failed[n.Metadata.Name] = err
		} else {
			statuses[n.Metadata.Name] = st
		}
	}
	return statuses, failed
}

func readStatus(n *tapv1alpha1.Node) (*agentv1.StatusResponse, error) {
	if n.Error != "" {
		return nil, errors.New(n.Error)
	}
	st := &agentv1.StatusResponse{}
	// An agent may be newer than this program and send unknown fields.
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(n.Status, st); err != nil {
		return nil, fmt.Errorf("the agent's status cannot be read: %w", err)
	}
	return st, nil
}

func (c *Flags) nodes(ctx context.Context) ([]tapv1alpha1.Node, error) {
	data, err := c.get(ctx, tapv1alpha1.Prefix+"/nodes", nil)
	if err != nil {
		return nil, err
	}
	var list tapv1alpha1.NodeList
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("list of agents from the controller: %w", err)
	}
	return list.Items, nil
}

// get returns the complete answer of the controller's API to one request.
func (c *Flags) get(ctx context.Context, path string, query map[string]string) ([]byte, error) {
	client, err := c.rest()
	if err != nil {
		return nil, err
	}
	r := client.Get().AbsPath(path)
	for k, v := range query {
		r = r.Param(k, v)
	}
	result := r.Do(ctx)
	if err := result.Error(); err != nil { // the error of DoRaw does not include the server's text
		return nil, explain(err)
	}
	return result.Raw()
}

// rest returns a client for paths of any API. It has no timeout, because a tap has
// no end.
func (c *Flags) rest() (rest.Interface, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	return rest.UnversionedRESTClientFor(config)
}
