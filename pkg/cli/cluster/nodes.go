package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// tapAPI asks the controller's API (pkg/controller/tapapi), through the API server.
type tapAPI struct{ *Flags }

func (c *Flags) tapAPI() *tapAPI { return &tapAPI{c} }

// NodeStatuses asks the agents of all nodes for their status, through the
// controller. A node whose agent does not answer is in the second map. When no
// agent could be asked, the first map is empty and the second has one error with
// the key "".
func (c *Flags) NodeStatuses(ctx context.Context) (map[string]*agentv1.StatusResponse, map[string]error) {
	nodes, err := c.tapAPI().nodes(ctx)
	if err != nil {
		return nil, map[string]error{"": err}
	}
	statuses, failed := map[string]*agentv1.StatusResponse{}, map[string]error{}
	for _, n := range nodes {
		st := new(agentv1.StatusResponse)
		if err := read(n.Status, n.Error, st); err != nil {
			failed[n.Metadata.Name] = err
			continue
		}
		statuses[n.Metadata.Name] = st
	}
	return statuses, failed
}

// read reads an agent's answer into m. failed is why there is none, or "".
func read(answer []byte, failed string, m proto.Message) error {
	if failed != "" {
		return errors.New(failed)
	}
	// An agent may be newer than this program and send unknown fields.
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(answer, m); err != nil {
		return fmt.Errorf("the agent's answer cannot be read: %w", err)
	}
	return nil
}

// costs asks the agents of all nodes what their pods cost, through the controller. warnings
// has a sentence for each agent that did not answer.
func (a *tapAPI) costs(ctx context.Context) (costs []*agentv1.CostsResponse, warnings []string, err error) {
	nodes, err := a.list(ctx, "/costs")
	if err != nil {
		return nil, nil, err
	}
	for _, n := range nodes {
		r := new(agentv1.CostsResponse)
		if err := read(n.Costs, n.Error, r); err != nil {
			warnings = append(warnings, fmt.Sprintf("node %s is not in the table: %v", n.Metadata.Name, err))
			continue
		}
		costs = append(costs, r)
	}
	return costs, warnings, nil
}

func (a *tapAPI) nodes(ctx context.Context) ([]tapv1alpha1.Node, error) { return a.list(ctx, "/nodes") }

// list asks for an answer of each node's agent.
func (a *tapAPI) list(ctx context.Context, what string) ([]tapv1alpha1.Node, error) {
	data, err := a.get(ctx, tapv1alpha1.Prefix+what, nil)
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
func (a *tapAPI) get(ctx context.Context, path string, query map[string]string) ([]byte, error) {
	client, err := a.rest()
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
func (a *tapAPI) rest() (rest.Interface, error) {
	config, err := a.RESTConfig()
	if err != nil {
		return nil, err
	}
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	return rest.UnversionedRESTClientFor(config)
}
