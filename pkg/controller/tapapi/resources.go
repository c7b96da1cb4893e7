package tapapi

import (
	"net/http"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/figures/table"
)

// resourceList answers with what runs in all namespaces or in that of the path, and what it
// uses.
func (s *asker) resourceList(w http.ResponseWriter, r *http.Request) error {
	q, err := tapv1alpha1.ParseResources(r.URL.Query())
	if err == nil {
		q.Namespace, err = namespaceOf(r, q.Namespace)
	}
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	uses := &table.Uses{Services: s.opt.Cluster.Services()}
	concerned := map[string]bool{} // nodes
	for _, w := range s.opt.Cluster.Workloads() {
		if q.Namespace != "" && q.Namespace != w.Namespace {
			continue
		}
		uses.Pods = append(uses.Pods, table.UsedPod{Pod: table.Pod{End: figures.EndOf(w), Ready: w.Ready}, UID: w.UID})
		concerned[w.Node] = true
	}
	list, err := table.Usage(&q, uses, time.Now()) // is it a question?
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	if len(list.Items) > 0 {
		nodes := slices.DeleteFunc(slices.Clone(s.opt.Cluster.Nodes()), func(n fanin.Node) bool { return !concerned[n.Name] })
		done, err := s.ask()
		if err != nil {
			return err
		}
		defer done()
		uses.Asked = len(nodes)
		responses, errs := s.agents.Resources(r.Context(), &s.kept, nodes)
		for i, n := range nodes {
			if errs[i] != nil {
				uses.Warnings = append(uses.Warnings, errs[i].Error())
				continue
			}
			uses.AddAnswer(n.Name, responses[i])
		}
		if list, err = table.Usage(&q, uses, time.Now()); err != nil {
			return err
		}
	}
	return writeJSON(w, list)
}
