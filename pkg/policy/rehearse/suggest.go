package rehearse

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/api/policy/v1alpha1"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Options are what Suggest is told.
type Options struct {
	// TrustDomain is that of the mesh: its service accounts are named as such.
	TrustDomain string
	// Requests: the policy names methods and paths where requests were recorded.
	Requests bool
	// MaxPaths is how many paths one rule may have: more are replaced by what they begin with.
	// 0: DefaultMaxPaths.
	MaxPaths int
}

// DefaultMaxPaths is how many paths a suggested rule has at most.
const DefaultMaxPaths = 10

// Suggestion is a policy for one workload. Its selector is to be filled in.
type Suggestion struct {
	Target Target
	Policy v1alpha1.AuthorizationPolicy
	Notes  []string // what the policy allows beyond the calls, in words
}

// anybody is a client without an identity: a rule without sources lets it in, and all others.
const anybody = ""

// permit is one thing that a client does. prefix: path is what paths begin with, in whole
// segments.
type permit struct {
	client string // SPIFFE ID, or anybody
	port   uint16
	method string // "": the whole port
	path   string
	prefix bool
}

// Suggest returns the smallest policies that allow the calls, one for each workload, in the
// order of their names. What one rule can say for several clients, methods or ports is
// one rule.
func Suggest(calls *Calls, o Options) (out []Suggestion) {
	if o.MaxPaths <= 0 {
		o.MaxPaths = DefaultMaxPaths
	}
	byTarget := map[Target][]Call{}
	for c := range calls.Counts {
		byTarget[c.Target] = append(byTarget[c.Target], c)
	}
	for target, calls := range byTarget {
		s := suggest(target, calls, &o)
		if len(s.Policy.Spec.Rules) > maxRules && o.Requests {
			coarse := o
			coarse.Requests = false
			n := len(s.Policy.Spec.Rules)
			s = suggest(target, calls, &coarse)
			s.note(fmt.Sprintf("%d rules would name all requests, and a policy has at most %d: the rules allow whole ports", n, maxRules))
		}
		if n := len(s.Policy.Spec.Rules); n > maxRules {
			s.note(fmt.Sprintf("it has %d rules, and an API server accepts %d: it has to be split", n, maxRules))
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Suggestion) int {
		return cmp.Or(cmp.Compare(a.Target.Namespace, b.Target.Namespace), cmp.Compare(a.Target.Kind, b.Target.Kind), cmp.Compare(a.Target.Name, b.Target.Name))
	})
	return out
}

// standard are the methods that a policy can name. Of other calls the whole port is allowed.
var standard = map[gatewayv1.HTTPMethod]bool{
	"GET": true, "HEAD": true, "POST": true, "PUT": true, "DELETE": true, "CONNECT": true, "OPTIONS": true, "TRACE": true, "PATCH": true,
}

// Bounds of the CustomResourceDefinition.
const (
	maxRules   = 64
	maxSources = 64
	maxPath    = 1024 // bytes
)

// permit returns what allows a call.
func (s *Suggestion) permit(c *Call, o *Options) permit {
	p := permit{client: c.Client.String(), port: c.Port}
	switch {
	case !o.Requests || c.Port == 0 || c.Method == "":
	case standard[gatewayv1.HTTPMethod(c.Method)] && strings.Contains(c.Path, "/{"):
		before, _, _ := strings.Cut(c.Path, "/{")
		p.method, p.path, p.prefix = c.Method, cmp.Or(before, "/"), true
		s.note(fmt.Sprintf("%s %s on port %d: the names of single things are not recorded, so that a rule allows what begins with %s", c.Method, c.Path, c.Port, p.path))
	case !standard[gatewayv1.HTTPMethod(c.Method)] || !nameable(authz.Exact, c.Path):
		s.note(fmt.Sprintf("port %d has had requests that a policy cannot name: a rule is for the whole port", c.Port))
	default:
		p.method, p.path = c.Method, c.Path
	}
	return p
}

// nameable reports whether a policy can have that path.
func nameable(kind authz.MatchKind, path string) bool {
	_, problems := authz.Compile([]authz.Policy{{
		Action: authz.ActionAllow, Rules: []authz.Rule{{To: []authz.Operation{{Paths: []authz.Match{{Kind: kind, Value: path}}}}}},
	}}, authz.Options{})
	return len(problems) == 0 && len(path) <= maxPath && strings.HasPrefix(path, "/")
}

func suggest(target Target, calls []Call, o *Options) Suggestion {
	s := Suggestion{Target: target}
	permits := map[permit]bool{}
	for i := range calls {
		permits[s.permit(&calls[i], o)] = true
	}
	s.fold(permits, o.MaxPaths)
	reduce(permits)
	p := &s.Policy
	p.APIVersion, p.Kind = v1alpha1.Group+"/"+v1alpha1.Version, v1alpha1.Kind
	p.Namespace, p.Name = target.Namespace, target.Name
	p.Spec.TargetRefs = []v1alpha1.PolicyTargetReferenceWithLabelSelectors{{Kind: "Pod"}}
	p.Spec.Action, p.Spec.EnforcementLevel = v1alpha1.ActionAllow, v1alpha1.EnforcementNetwork
	for _, d := range split(merge(permits)) {
		r := d.rule(target.Namespace, o.TrustDomain)
		if r.Authorization != nil {
			p.Spec.EnforcementLevel = v1alpha1.EnforcementApplication
		}
		if r.Sources == nil {
			s.note("clients without an identity have called: a rule lets in everybody")
		}
		if r.NetworkAttributes == nil {
			s.note("not all calls were recorded with their port: a rule is for all ports")
		}
		p.Spec.Rules = append(p.Spec.Rules, r)
	}
	return s
}

func (s *Suggestion) note(text string) {
	if !slices.Contains(s.Notes, text) {
		s.Notes = append(s.Notes, text)
	}
}

// fold replaces the paths that a client calls at a port with a method, where they are too
// many, by what they begin with: as many whole segments as give few enough.
func (s *Suggestion) fold(permits map[permit]bool, most int) {
	groups := map[permit][]permit{}
	for p := range permits {
		if p.method != "" {
			group := permit{client: p.client, port: p.port, method: p.method}
			groups[group] = append(groups[group], p)
		}
	}
	for group, all := range groups {
		if len(all) <= most {
			continue
		}
		depth := 0
		for _, p := range all {
			depth = max(depth, strings.Count(p.path, "/"))
		}
		prefixes := map[string]bool{}
		for ; depth >= 0; depth-- {
			clear(prefixes)
			for _, p := range all {
				prefix := begin(p.path, depth)
				if !nameable(authz.Prefix, prefix) {
					prefix = "/"
				}
				prefixes[prefix] = true
			}
			if len(prefixes) <= most {
				break
			}
		}
		for _, p := range all {
			delete(permits, p)
		}
		for prefix := range prefixes {
			permits[permit{group.client, group.port, group.method, prefix, true}] = true
		}
		s.note(fmt.Sprintf("%s on port %d: %d paths are allowed by what they begin with", group.method, group.port, len(all)))
	}
}

// begin returns the first segments of a path.
func begin(path string, segments int) string {
	end := 0
	for range segments {
		i := strings.IndexByte(path[min(end+1, len(path)):], '/')
		if i < 0 {
			return path
		}
		end += 1 + i
	}
	return cmp.Or(path[:end], "/")
}

// reduce removes what something wider allows as well.
func reduce(permits map[permit]bool) {
	for p := range permits {
		for _, client := range []string{p.client, anybody} {
			for _, port := range []uint16{p.port, 0} {
				whole := permit{client: client, port: port}
				same := p
				same.client = client
				if whole != p && permits[whole] || same != p && permits[same] || p.underPrefix(client, permits) {
					delete(permits, p)
				}
			}
		}
	}
}

// underPrefix reports whether a prefix of the client allows p.
func (p permit) underPrefix(client string, permits map[permit]bool) bool {
	if p.method == "" {
		return false
	}
	for path := p.path; ; {
		wider := permit{client, p.port, p.method, cmp.Or(path, "/"), true}
		if wider != p && permits[wider] {
			return true
		}
		i := strings.LastIndexByte(path, '/')
		if i < 0 {
			return false
		}
		path = path[:i]
	}
}

// path is a path of a rule.
type path struct {
	value  string
	prefix bool
}

// draft is a rule. The lists are sorted.
type draft struct {
	clients []string
	ports   []uint16
	methods []string // none: the whole port
	paths   []path
}

// merge makes rules of permits: first all paths of the same client, port and method are one,
// then those of which only the methods, the clients or the ports differ.
func merge(permits map[permit]bool) []draft {
	byMethod := map[permit]*draft{}
	for p := range permits {
		key := permit{client: p.client, port: p.port, method: p.method}
		d := byMethod[key]
		if d == nil {
			d = &draft{clients: []string{p.client}, ports: []uint16{p.port}}
			if p.method != "" {
				d.methods = []string{p.method}
			}
			byMethod[key] = d
		}
		if p.method != "" {
			d.paths = append(d.paths, path{p.path, p.prefix})
		}
	}
	drafts := make([]draft, 0, len(byMethod))
	for _, d := range byMethod {
		slices.SortFunc(d.paths, func(a, b path) int {
			return cmp.Or(cmp.Compare(a.value, b.value), cmp.Compare(fmt.Sprint(a.prefix), fmt.Sprint(b.prefix)))
		})
		drafts = append(drafts, *d)
	}
	drafts = join(drafts, func(d *draft) *[]string { return &d.methods })
	drafts = join(drafts, func(d *draft) *[]string { return &d.clients })
	drafts = join(drafts, func(d *draft) *[]uint16 { return &d.ports })
	slices.SortFunc(drafts, func(a, b draft) int { return cmp.Compare(a.key(), b.key()) })
	return drafts
}

// split makes several rules of those with more clients than a rule may have.
func split(in []draft) (out []draft) {
	for _, d := range in {
		for clients := range slices.Chunk(d.clients, maxSources) {
			part := d
			part.clients = clients
			out = append(out, part)
		}
	}
	return out
}

func (d *draft) key() string {
	return fmt.Sprintf("%q %d %q %#v", d.clients, d.ports, d.methods, d.paths)
}

// join makes one of the drafts of which only the list differs.
func join[T cmp.Ordered](in []draft, list func(*draft) *[]T) (out []draft) {
	byRest := map[string]*draft{}
	for _, d := range in {
		rest := d
		*list(&rest) = nil
		// The whole of a port is not the same as no path of it, nor anybody as no client.
		key := fmt.Sprintf("%s %v %v", rest.key(), len(d.methods) == 0, slices.Contains(d.clients, anybody))
		if to := byRest[key]; to != nil {
			*list(to) = append(*list(to), *list(&d)...)
		} else {
			byRest[key] = &d
		}
	}
	for _, key := range slices.Sorted(maps.Keys(byRest)) {
		d := byRest[key]
		all := slices.Clone(*list(d))
		slices.Sort(all)
		*list(d) = slices.Compact(all)
		out = append(out, *d)
	}
	return out
}

func (d *draft) rule(namespace, domain string) (r v1alpha1.AuthorizationRule) {
	for _, id := range d.clients {
		if id == anybody {
			r.Sources = nil
			break
		}
		r.Sources = append(r.Sources, source(id, namespace, domain))
	}
	if !slices.Contains(d.ports, 0) {
		r.NetworkAttributes = new(v1alpha1.AuthorizationNetworkAttributes)
		for _, p := range d.ports {
			r.NetworkAttributes.Ports = append(r.NetworkAttributes.Ports, gatewayv1.PortNumber(p))
		}
	}
	if len(d.methods) == 0 {
		return r
	}
	r.Authorization = &v1alpha1.AuthorizationAttributes{Type: v1alpha1.AuthorizationInline}
	for _, m := range d.methods {
		r.Authorization.Methods = append(r.Authorization.Methods, gatewayv1.HTTPMethod(m))
	}
	for _, p := range d.paths {
		kind := gatewayv1.PathMatchExact
		if p.prefix {
			kind = gatewayv1.PathMatchPathPrefix
		}
		r.Authorization.Paths = append(r.Authorization.Paths, gatewayv1.HTTPPathMatch{Type: &kind, Value: &p.value})
	}
	return r
}

// source names a client: a service account of the mesh's own trust domain as such.
func source(id, namespace, domain string) v1alpha1.AuthorizationSource {
	rest, own := strings.CutPrefix(id, "spiffe://"+domain+"/ns/")
	ns, name, ok := strings.Cut(rest, "/sa/")
	if !own || !ok {
		return v1alpha1.AuthorizationSource{Type: v1alpha1.SourceSPIFFE, SPIFFE: &id}
	}
	out := v1alpha1.AuthorizationSource{
		Type: v1alpha1.SourceServiceAccount, ServiceAccount: &v1alpha1.AuthorizationSourceServiceAccount{Name: name},
	}
	if ns != namespace {
		n := gatewayv1.Namespace(ns)
		out.ServiceAccount.Namespace = &n
	}
	return out
}
