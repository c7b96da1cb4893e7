package custom

// ForeignPolicies are the policies of networks that a CNI enforces, beside NetworkPolicy. The
// mesh reads only that they exist: their names and namespaces. It watches them in any
// version, the preferred first.
var ForeignPolicies = []Resource{
	{"cilium.io", []string{"v2"}, "ciliumnetworkpolicies", "CiliumNetworkPolicy"},
	{"cilium.io", []string{"v2"}, "ciliumclusterwidenetworkpolicies", "CiliumClusterwideNetworkPolicy"},
	{"policy.networking.k8s.io", []string{"v1alpha2"}, "clusternetworkpolicies", "ClusterNetworkPolicy"},
	{"policy.networking.k8s.io", []string{"v1alpha1"}, "adminnetworkpolicies", "AdminNetworkPolicy"},
	{"policy.networking.k8s.io", []string{"v1alpha1"}, "baselineadminnetworkpolicies", "BaselineAdminNetworkPolicy"},
	{"crd.projectcalico.org", []string{"v1"}, "networkpolicies", "NetworkPolicy"},
	{"crd.projectcalico.org", []string{"v1"}, "globalnetworkpolicies", "GlobalNetworkPolicy"},
	{"projectcalico.org", []string{"v3"}, "networkpolicies", "NetworkPolicy"},
	{"projectcalico.org", []string{"v3"}, "globalnetworkpolicies", "GlobalNetworkPolicy"},
}

// IsForeign reports whether the group has ForeignPolicies.
func IsForeign(group string) bool {
	for i := range ForeignPolicies {
		if ForeignPolicies[i].Group == group {
			return true
		}
	}
	return false
}
