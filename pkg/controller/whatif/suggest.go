package whatif

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/rehearse"
)

// Suggest writes the policies that allow the calls and nothing else, in a language of
// tapv1alpha1.
func (s *State) Suggest(lang string, calls *rehearse.Calls) (*tapv1alpha1.AuthzSuggestion, error) {
	out := &tapv1alpha1.AuthzSuggestion{Kind: "AuthzSuggestion", APIVersion: tapv1alpha1.GroupVersion, Warnings: []string{}, Notes: []string{}}
	w := &writer{labels: s.selectors(calls), domain: s.Config.TrustDomain, out: out}
	for _, n := range calls.Counts {
		out.Calls += n
	}
	suggestions := rehearse.Suggest(calls, rehearse.Options{TrustDomain: s.Config.TrustDomain, Requests: lang != tapv1alpha1.LangLinkerd})
	for i := range suggestions {
		g := &suggestions[i]
		selector := w.labels[g.Target]
		if selector == nil {
			w.note(g.Target, "no label selects its pods and no others: no policy is suggested")
			continue
		}
		for _, n := range g.Notes {
			w.note(g.Target, n)
		}
		switch lang {
		case tapv1alpha1.LangLinkerd:
			w.linkerd(g.Target, selector, calls)
		case tapv1alpha1.LangIstio:
			w.istio(g, selector)
		default:
			g.Policy.Spec.TargetRefs[0].Selector = &metav1.LabelSelector{MatchLabels: selector}
			w.write(&g.Policy)
		}
	}
	if w.err != nil {
		return nil, w.err
	}
	out.Manifest = w.text.String()
	return out, nil
}

// writer writes YAML documents.
type writer struct {
	labels map[rehearse.Target]map[string]string
	domain string
	out    *tapv1alpha1.AuthzSuggestion
	text   strings.Builder
	err    error
}

func (w *writer) note(t rehearse.Target, text string) {
	w.out.Notes = append(w.out.Notes, fmt.Sprintf("%s %s/%s: %s", t.Kind, t.Namespace, t.Name, text))
}

func (w *writer) write(object any) {
	data, err := yaml.Marshal(object)
	if err != nil {
		w.err = err
		return
	}
	w.text.WriteString("---\n")
	w.text.Write(data)
}

type object map[string]any

func (w *writer) object(version, kind, namespace, name string, spec object) {
	w.write(object{"apiVersion": version, "kind": kind, "metadata": object{"namespace": namespace, "name": name}, "spec": spec})
}

const linkerdGroup = "policy.linkerd.io"

// linkerd writes a Server for each port, and who may connect to it. Linkerd's language
// combines all references of a policy: clients with and without identities have a policy each.
func (w *writer) linkerd(t rehearse.Target, selector map[string]string, calls *rehearse.Calls) {
	type clients struct {
		accounts map[mesh.Identity]bool
		networks map[string]bool
	}
	ports := map[uint16]*clients{}
	for c := range calls.Counts {
		if c.Target != t {
			continue
		}
		if c.Port == 0 {
			w.note(t, "calls were recorded without their port, which a Server needs: set underlane.io/policy: audit, and ask again")
			return
		}
		p := ports[c.Port]
		if p == nil {
			p = &clients{map[mesh.Identity]bool{}, map[string]bool{}}
			ports[c.Port] = p
		}
		switch {
		case !c.Client.IsZero() && c.Client.TrustDomain == w.domain:
			p.accounts[c.Client] = true
		case !c.Client.IsZero():
			w.note(t, fmt.Sprintf("%s is of another trust domain, which Linkerd's policies cannot name: it is left out", c.Client))
		case c.Address.IsValid():
			p.networks[fmt.Sprintf("%s/%d", c.Address, c.Address.BitLen())] = true
		default:
			w.note(t, "clients without an identity have called from more addresses than are recorded: all addresses are allowed")
			p.networks["0.0.0.0/0"], p.networks["::/0"] = true, true
		}
	}
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		p := ports[port]
		name := fmt.Sprintf("%s-%d", t.Name, port)
		w.object(linkerdGroup+"/v1beta3", "Server", t.Namespace, name, object{"podSelector": object{"matchLabels": selector}, "port": port})
		allow := func(name, kind string, spec object) {
			w.object(linkerdGroup+"/v1alpha1", kind, t.Namespace, name, spec)
			w.object(linkerdGroup+"/v1alpha1", "AuthorizationPolicy", t.Namespace, name, object{
				"targetRef":                  object{"group": linkerdGroup, "kind": "Server", "name": fmt.Sprintf("%s-%d", t.Name, port)},
				"requiredAuthenticationRefs": []object{{"group": linkerdGroup, "kind": kind, "name": name}},
			})
		}
		if len(p.accounts) > 0 {
			var refs []object
			for _, id := range slices.SortedFunc(maps.Keys(p.accounts), func(a, b mesh.Identity) int { return cmp.Compare(a.String(), b.String()) }) {
				ref := object{"kind": "ServiceAccount", "name": id.ServiceAccount}
				if id.Namespace != t.Namespace {
					ref["namespace"] = id.Namespace
				}
				refs = append(refs, ref)
			}
			allow(name, "MeshTLSAuthentication", object{"identityRefs": refs})
		}
		if len(p.networks) > 0 {
			w.note(t, fmt.Sprintf("clients without an identity have called port %d: their addresses are allowed, which other pods may get later", port))
			var networks []object
			for _, cidr := range slices.Sorted(maps.Keys(p.networks)) {
				networks = append(networks, object{"cidr": cidr})
			}
			allow(name+"-addresses", "NetworkAuthentication", object{"networks": networks})
		}
	}
}

// istio writes the suggested policy in Istio's language.
func (w *writer) istio(g *rehearse.Suggestion, selector map[string]string) {
	var rules []object
	for _, r := range g.Policy.Spec.Rules {
		rule := object{}
		var principals []string
		for _, s := range r.Sources {
			if s.SPIFFE != nil {
				principals = append(principals, strings.TrimPrefix(*s.SPIFFE, "spiffe://"))
				continue
			}
			namespace := g.Target.Namespace
			if s.ServiceAccount.Namespace != nil {
				namespace = string(*s.ServiceAccount.Namespace)
			}
			principals = append(principals, fmt.Sprintf("%s/ns/%s/sa/%s", w.domain, namespace, s.ServiceAccount.Name))
		}
		if len(principals) > 0 {
			rule["from"] = []object{{"source": object{"principals": principals}}}
		}
		operation := object{}
		if r.NetworkAttributes != nil {
			var ports []string
			for _, p := range r.NetworkAttributes.Ports {
				ports = append(ports, fmt.Sprint(p))
			}
			operation["ports"] = ports
		}
		if a := r.Authorization; a != nil {
			operation["methods"] = a.Methods
			var paths []string
			for _, p := range a.Paths {
				value := *p.Value
				if *p.Type != "Exact" {
					paths = append(paths, strings.TrimSuffix(value, "/")+"/*")
				}
				if *p.Type == "Exact" || value != "/" {
					paths = append(paths, value)
				}
			}
			operation["paths"] = paths
		}
		if len(operation) > 0 {
			rule["to"] = []object{{"operation": operation}}
		}
		rules = append(rules, rule)
	}
	w.object("security.istio.io/v1", "AuthorizationPolicy", g.Target.Namespace, g.Target.Name, object{
		"selector": object{"matchLabels": selector}, "action": "ALLOW", "rules": rules,
	})
}

// ofOneTemplate are labels that tell the pods of one template, or one pod.
var ofOneTemplate = map[string]bool{
	"pod-template-hash": true, "controller-revision-hash": true, "pod-template-generation": true, "statefulset.kubernetes.io/pod-name": true,
	"apps.kubernetes.io/pod-index": true, "controller-uid": true, "batch.kubernetes.io/controller-uid": true, "job-name": true, "batch.kubernetes.io/job-name": true,
	mesh.LabelMesh: true,
}

// selectors returns the labels that select the pods of the calls' workloads, and no others of
// their namespaces.
func (s *State) selectors(calls *rehearse.Calls) map[rehearse.Target]map[string]string {
	namespaces := map[string]bool{}
	for c := range calls.Counts {
		namespaces[c.Target.Namespace] = true
	}
	o := translate.Objects{Namespaces: s.Objects.Namespaces}
	labels := map[string]map[string]string{} // by namespace/name
	for _, p := range s.Objects.Pods {
		if namespaces[p.Namespace] {
			o.Pods = append(o.Pods, p)
			labels[p.Namespace+"/"+p.Name] = p.Labels
		}
	}
	common := map[rehearse.Target]map[string]string{}
	workloads := s.Config.Translate(&o).Workloads
	target := func(w *mesh.Workload) rehearse.Target {
		return rehearse.Target{Namespace: w.Namespace, Kind: w.OwnerKind, Name: w.OwnerName}
	}
	for _, w := range workloads {
		of, all := labels[w.Namespace+"/"+w.Name], common[target(w)]
		if all == nil {
			all = maps.Clone(of)
			maps.DeleteFunc(all, func(k, _ string) bool { return ofOneTemplate[k] })
			if all == nil {
				all = map[string]string{}
			}
			common[target(w)] = all
			continue
		}
		maps.DeleteFunc(all, func(k, v string) bool { return of[k] != v })
	}
	for t, want := range common {
		for _, w := range workloads {
			if w.Namespace == t.Namespace && target(w) != t && selects(want, labels[w.Namespace+"/"+w.Name]) {
				delete(common, t)
			}
		}
		if len(want) == 0 {
			delete(common, t)
		}
	}
	return common
}

func selects(want, have map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}
