package tapapi

import (
	"context"
	"fmt"
	"net/http"

	"google.golang.org/protobuf/encoding/protojson"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/fanin"
)

// nodeCalls tells of the nodes, their agents, and the state that they get.
type nodeCalls struct{ *asker }

// nodes answers with the status of every agent.
func (s *nodeCalls) nodes(w http.ResponseWriter, r *http.Request) error {
	nodes := s.opt.Cluster.Nodes()
	statuses, errs := s.agents.Statuses(r.Context(), nodes)
	return writeNodes(w, "AgentList", nodes, errs, func(i int, item *tapv1alpha1.Node) (err error) {
		item.Status, err = protojson.Marshal(statuses[i])
		return err
	})
}

// costs answers with what pods cost every agent.
func (s *nodeCalls) costs(w http.ResponseWriter, r *http.Request) error {
	nodes := s.opt.Cluster.Nodes()
	costs, errs := s.agents.Costs(r.Context(), nodes)
	return writeNodes(w, "AgentCostsList", nodes, errs, func(i int, item *tapv1alpha1.Node) (err error) {
		item.Costs, err = protojson.Marshal(costs[i])
		return err
	})
}

// writeNodes writes an item for each node: what fill sets in it, or the error of the call to
// its agent.
func writeNodes(w http.ResponseWriter, kind string, nodes []fanin.Node, errs []error, fill func(int, *tapv1alpha1.Node) error) error {
	list := tapv1alpha1.NodeList{Kind: kind, APIVersion: tapv1alpha1.GroupVersion, Items: []tapv1alpha1.Node{}}
	for i, n := range nodes {
		item := tapv1alpha1.Node{Metadata: tapv1alpha1.Meta{Name: n.Name}, Address: n.Address}
		err := errs[i]
		if err == nil {
			err = fill(i, &item)
		}
		if err != nil {
			item.Error = err.Error()
		}
		list.Items = append(list.Items, item)
	}
	return writeJSON(w, list)
}

// callAgent makes one call to the agent of the node in r's path.
func (s *nodeCalls) callAgent(r *http.Request, call func(context.Context, agentv1.NodeClient) error) error {
	name := r.PathValue("name")
	for _, n := range s.opt.Cluster.Nodes() {
		if n.Name == name {
			if err := s.agents.Call(r.Context(), n, call); err != nil {
				return failure(http.StatusBadGateway, metav1.StatusReasonServiceUnavailable, err.Error())
			}
			return nil
		}
	}
	return notFound("nodes", name, fmt.Sprintf("there is no node %q", name))
}

func (s *nodeCalls) nodeStatus(w http.ResponseWriter, r *http.Request) error {
	var data []byte
	err := s.callAgent(r, func(ctx context.Context, c agentv1.NodeClient) error {
		st, err := c.Status(ctx, &agentv1.StatusRequest{})
		if err == nil {
			data, err = protojson.Marshal(st)
		}
		return err
	})
	return write(w, "application/json", data, err)
}

func (s *nodeCalls) nodeDump(w http.ResponseWriter, r *http.Request) error {
	var data []byte
	err := s.callAgent(r, func(ctx context.Context, c agentv1.NodeClient) error {
		d, err := c.Dump(ctx, &agentv1.DumpRequest{})
		data = d.GetJson()
		return err
	})
	return write(w, "application/json", data, err)
}

func (s *nodeCalls) nodeMetrics(w http.ResponseWriter, r *http.Request) error {
	var data []byte
	err := s.callAgent(r, func(ctx context.Context, c agentv1.NodeClient) error {
		m, err := c.Metrics(ctx, &agentv1.MetricsRequest{})
		data = m.GetText()
		return err
	})
	return write(w, "text/plain; version=0.0.4; charset=utf-8", data, err)
}

func write(w http.ResponseWriter, contentType string, data []byte, err error) error {
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", contentType)
	_, err = w.Write(data)
	return err
}
