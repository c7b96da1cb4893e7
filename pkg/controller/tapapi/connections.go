package tapapi

import (
	"net/http"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/mesh"
)

// connectionList answers with the open connections of all namespaces or of that in the path.
func (s *asker) connectionList(w http.ResponseWriter, r *http.Request) error {
	q, err := tapv1alpha1.ParseConnections(r.URL.Query())
	if err == nil {
		q.Namespace, err = namespaceOf(r, q.Namespace)
	}
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	request, err := table.OpenRequest(&q)
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	done, err := s.ask()
	if err != nil {
		return err
	}
	defer done()
	answers := &table.OpenAnswers{May: s.mayKnow(q.Namespace)}
	nodes, unnamed := s.meshedNodes(), false
	responses, errs := s.agents.Connections(r.Context(), &s.kept, nodes, request)
	for i, n := range nodes {
		answers.Nodes = append(answers.Nodes, n.Name)
		if errs[i] != nil {
			if answers.May == nil || answers.May(n.Name) {
				answers.Warnings = append(answers.Warnings, errs[i].Error())
			} else {
				unnamed = true
			}
			responses[i] = nil
		}
	}
	if unnamed {
		answers.Warnings = append(answers.Warnings, unnamedSilent)
	}
	answers.Responses = responses
	list, err := table.Open(&q, answers, newKnownPods(s.opt.Cluster.Workloads()), time.Now())
	if err != nil {
		return err
	}
	return writeJSON(w, list)
}

// knownPods finds the pods of the cluster.
type knownPods struct {
	names map[[2]string]*mesh.Workload
	addrs map[netip.Addr]*mesh.Workload
}

func newKnownPods(workloads []*mesh.Workload) knownPods {
	k := knownPods{make(map[[2]string]*mesh.Workload, len(workloads)), make(map[netip.Addr]*mesh.Workload, len(workloads))}
	for _, w := range workloads {
		k.names[[2]string{w.Namespace, w.Name}] = w
		if w.HostNetwork {
			continue // its address is that of its node, and of others there
		}
		for _, addr := range w.Addrs {
			k.addrs[addr] = w
		}
	}
	return k
}

// ByName implements table.KnownPods.
func (k knownPods) ByName(namespace, name string) (*mesh.Workload, bool) {
	w, ok := k.names[[2]string{namespace, name}]
	return w, ok
}

// ByAddress implements table.KnownPods.
func (k knownPods) ByAddress(addr netip.Addr) (*mesh.Workload, bool) {
	w, ok := k.addrs[addr.Unmap()]
	return w, ok
}
