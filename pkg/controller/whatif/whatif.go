// Package whatif judges recorded calls by policies that are not applied, and writes the
// policies that recorded calls need, with the objects that the controller has. It is pure.
package whatif

import (
	"errors"
	"fmt"
	"slices"

	"sigs.k8s.io/yaml"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/judged"
	"github.com/underlane/underlane/pkg/policy/rehearse"
)

// State is what the controller has. The objects are not changed.
type State struct {
	Objects *translate.Objects
	Config  translate.Config
}

// MaxManifest bounds the policies that can be tried at once, in bytes.
const MaxManifest = 1 << 20

// Try judges calls by the policies of a manifest, which replace those of the same names and
// are added to the others. namespace is that of the calls, "": several. The error is a mistake
// in the manifest.
func (s *State) Try(manifest []byte, namespace string, calls *rehearse.Calls) (*tapv1alpha1.AuthzTry, error) {
	tried, err := readPolicies(manifest, namespace)
	if err != nil {
		return nil, err
	}
	targets := map[string]bool{}
	for c := range calls.Counts {
		targets[c.Target.Namespace] = true
	}
	before, after := s.deciders(targets, nil), s.deciders(targets, tried)
	report := rehearse.Try(calls, before.of, after.of)
	out := &tapv1alpha1.AuthzTry{
		Kind: "AuthzTry", APIVersion: tapv1alpha1.GroupVersion, Objects: len(tried),
		Warnings: []string{}, Problems: []string{}, Notes: after.notes(),
		Calls: report.Calls, Allowed: report.Allowed, Denied: report.Denied, Lost: report.Lost(), Won: report.Won(), Unsure: report.Unsure,
		Changes: []tapv1alpha1.AuthzChange{},
	}
	for _, p := range after.problems {
		if !slices.Contains(before.problems, p) {
			out.Problems = append(out.Problems, p)
		}
	}
	if calls.Dropped > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d calls were too many to be judged", calls.Dropped))
	}
	for i := range report.Changes {
		if i == tapv1alpha1.MaxAuthzChanges {
			out.Notes = append(out.Notes, fmt.Sprintf("%d more kinds of calls would change", len(report.Changes)-i))
			break
		}
		out.Changes = append(out.Changes, change(&report.Changes[i]))
	}
	return out, nil
}

func change(c *rehearse.Change) tapv1alpha1.AuthzChange {
	row := tapv1alpha1.AuthzRow{
		Namespace: c.Call.Target.Namespace, Kind: c.Call.Target.Kind, Name: c.Call.Target.Name,
		Client: c.Call.Client.String(), Port: c.Call.Port, Method: c.Call.Method, Host: c.Call.Host, Path: c.Call.Path, Calls: c.Count,
	}
	if c.Call.Address.IsValid() {
		row.Address = c.Call.Address.String()
	}
	return tapv1alpha1.AuthzChange{
		AuthzRow: row, NowAllowed: !c.Before.Denied, NowBy: judged.By(&c.Before), ThenBy: judged.By(&c.After), Unsure: c.Unsure,
	}
}

// readPolicies reads the policies of a manifest. It refuses what it cannot try.
func readPolicies(manifest []byte, namespace string) ([]*custom.PolicyObject, error) {
	if len(manifest) > MaxManifest {
		return nil, fmt.Errorf("the manifest has %d bytes, at most %d can be tried", len(manifest), MaxManifest)
	}
	names, err := watch.Names(manifest)
	if err != nil {
		return nil, err
	}
	o, err := watch.Decode(manifest)
	if err != nil {
		return nil, err
	}
	if len(o.PolicyObjects) == 0 {
		return nil, errors.New("the manifest has no authorization policy of a kind that is known here")
	}
	if len(names) != len(o.PolicyObjects) {
		for _, n := range names {
			if !slices.ContainsFunc(o.PolicyObjects, func(p *custom.PolicyObject) bool { return n == p.APIVersion+" "+p.Kind }) {
				return nil, fmt.Errorf("%s: only authorization policies of kinds that are known here can be tried", n)
			}
		}
	}
	for _, p := range o.PolicyObjects {
		if namespace != "" && p.Namespace != namespace {
			return nil, fmt.Errorf("%s %s/%s: the policies to try must be of namespace %s, whose calls are judged", p.Kind, p.Namespace, p.Name, namespace)
		}
	}
	return o.PolicyObjects, nil
}

// deciders decide for workloads.
type deciders struct {
	by       map[rehearse.Target]*decider
	problems []string
	several  map[rehearse.Target]bool // whose pods do not have the same policies
}

// deciders translates the pods of some namespaces with all policies, and with more.
func (s *State) deciders(namespaces map[string]bool, more []*custom.PolicyObject) *deciders {
	o := translate.Objects{
		Namespaces: s.Objects.Namespaces, Nodes: s.Objects.Nodes, Services: s.Objects.Services,
		HTTPRoutes: s.Objects.HTTPRoutes, GRPCRoutes: s.Objects.GRPCRoutes, // of Servers
	}
	for _, p := range s.Objects.Pods {
		if namespaces[p.Namespace] {
			o.Pods = append(o.Pods, p)
		}
	}
	o.PolicyObjects = replace(s.Objects.PolicyObjects, more)
	result := s.Config.Translate(&o)
	out := &deciders{by: map[rehearse.Target]*decider{}, several: map[rehearse.Target]bool{}}
	specs := map[rehearse.Target]string{}
	for _, w := range result.Workloads {
		t := rehearse.Target{Namespace: w.Namespace, Kind: w.OwnerKind, Name: w.OwnerName}
		spec := result.Authz[w.UID]
		text, _ := yaml.Marshal(spec)
		if out.by[t] != nil {
			out.several[t] = out.several[t] || specs[t] != string(text)
			continue
		}
		d := &decider{workload: w}
		if spec == nil {
			spec = new(authz.Spec)
		}
		d.rules, _ = authz.CompileWorkload(spec)
		out.by[t], specs[t] = d, string(text)
	}
	for _, p := range result.Problems {
		out.problems = append(out.problems, p.String())
	}
	return out
}

func replace(objects, more []*custom.PolicyObject) []*custom.PolicyObject {
	out := slices.Clone(more)
	for _, p := range objects {
		if !slices.ContainsFunc(more, func(m *custom.PolicyObject) bool {
			return m.Kind == p.Kind && m.GroupVersionKind().Group == p.GroupVersionKind().Group && m.Namespace == p.Namespace && m.Name == p.Name
		}) {
			out = append(out, p)
		}
	}
	return out
}

func (d *deciders) of(t rehearse.Target, _ uint16) rehearse.Decider {
	if found := d.by[t]; found != nil {
		return found
	}
	none, _ := authz.CompileWorkload(new(authz.Spec)) // its pods are gone
	return none
}

func (d *deciders) notes() []string {
	out := []string{
		"header fields, tokens and queries are not recorded: calls that a rule about them decides are counted as unsure",
		"names of single things in paths are not recorded: {*} stands for any of them",
	}
	for _, one := range d.by {
		if spec := one.rules.Spec(); len(spec.Limits)+len(spec.RateLimits) > 0 {
			out = append(out, "limits of requests (RateLimitPolicy, HTTPLocalRateLimitPolicy) are not tried: what they would refuse counts as allowed")
			break
		}
	}
	for t := range d.several {
		out = append(out, fmt.Sprintf("the pods of %s %s/%s do not have the same policies: those of one of them are taken", t.Kind, t.Namespace, t.Name))
	}
	slices.Sort(out)
	return out
}

// decider decides for the pods of one workload, by its setting and its policies.
type decider struct {
	workload *mesh.Workload
	rules    *authz.Workload
}

// DecideConnection implements rehearse.Decider.
func (d *decider) DecideConnection(c *authz.Connection) authz.Decision {
	if out, denied := d.setting(c); denied {
		return out
	}
	return d.rules.DecideConnection(c)
}

// DecideRequest implements rehearse.Decider.
func (d *decider) DecideRequest(c *authz.Connection, r *authz.Request) authz.Decision {
	if out, denied := d.setting(c); denied {
		return out
	}
	return d.rules.DecideRequest(c, r)
}

// setting decides by underlane.io/policy.
func (d *decider) setting(c *authz.Connection) (authz.Decision, bool) {
	v := policy.Decide(policy.Input{Client: c.Peer.Identity(), ClientAddr: c.Client, Server: d.workload, Port: c.Port})
	return authz.Decision{Outcome: authz.Outcome{Why: authz.WhyDefault}, Group: mesh.AnnotationPolicy + " " + d.workload.Settings.Policy.String()}, !v.Allowed
}
