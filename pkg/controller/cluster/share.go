package cluster

import (
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/underlane/underlane/pkg/controller/agentauth"
	"github.com/underlane/underlane/pkg/controller/translate"
)

// Share implements controller.Platform: the ready endpoints of the controllers' Service, and
// the pods of agents that have a node.
func (c *cluster) Share() (replicas, agents int) { return share(c.objects.Objects(), c.namespace) }

func share(o *translate.Objects, namespace string) (replicas, agents int) {
	seen := map[string]bool{} // by address: a pod has a slice for each family, and an object as target
	for _, s := range o.EndpointSlices {
		if s.Namespace != namespace || s.Labels[discoveryv1.LabelServiceName] != serviceName {
			continue
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
				continue
			}
			who := e.Addresses[0]
			if e.TargetRef != nil {
				who = e.TargetRef.Name
			}
			seen[who] = true
		}
	}
	for _, p := range o.Pods {
		if p.Namespace == namespace && p.Spec.ServiceAccountName == agentauth.ServiceAccount && p.Spec.NodeName != "" && p.DeletionTimestamp == nil {
			agents++
		}
	}
	return len(seen), agents
}
