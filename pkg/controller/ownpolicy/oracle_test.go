package ownpolicy

import (
	"regexp"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/api/policy/v1alpha1"
)

// object is a policy with what the oracle is told about it: in which places a field was added
// that nobody knows.
type object struct {
	policy   v1alpha1.AuthorizationPolicy
	unknown  bool         // in the specification
	unknowns map[int]bool // in a rule
}

// call is a request, or with a zero method a connection that carries none.
type call struct {
	client       [3]string // trust domain, namespace, service account; zero: none
	port         int32
	method, host string
	paths        []string // in all readings
	headers      [][2]string
}

// oracle decides as GEP-3779 and XAccessPolicy describe it, and for what is not understood as
// the documentation of the package does. It walks through the objects and knows nothing of
// the engine. all are the policies that select the pod.
func oracle(all []object, c *call) (allowed bool) {
	allows, allow := false, false
	for i := range all {
		switch all[i].policy.Spec.Action {
		case "ALLOW":
			allows = true
			allow = allow || (&judge{object: &all[i], call: c}).policy()
		case "AUDIT":
		default: // DENY, and what is not known
			if (&judge{object: &all[i], call: c, wide: true}).policy() {
				return false
			}
		}
	}
	return allow || !allows
}

// judge judges one policy. wide: a doubt counts as a match.
type judge struct {
	*object
	*call
	wide bool
	bad  bool
}

// doubt says that something is not understood.
func (j *judge) doubt() bool { j.bad = true; return true }

func (j *judge) policy() bool {
	s := &j.object.policy.Spec
	known := slices.Contains([]string{"ALLOW", "DENY", "AUDIT"}, string(s.Action)) &&
		(s.EnforcementLevel == "Network" || s.EnforcementLevel == "Application") && !j.unknown && targetKnown(s)
	if !known {
		return j.wide
	}
	for i := range s.Rules {
		j.bad = j.unknowns[i]
		if j.rule(&s.Rules[i]) && (j.wide || !j.bad) {
			return true
		}
	}
	return false
}

func targetKnown(s *v1alpha1.AuthorizationPolicySpec) bool {
	if len(s.TargetRefs) != 1 {
		return false
	}
	t := s.TargetRefs[0]
	return (t.Group == "" || t.Group == "core") && t.Kind == "Pod" && t.Name == "" && t.Selector != nil
}

func (j *judge) rule(r *v1alpha1.AuthorizationRule) bool {
	ok := true
	if r.Sources != nil {
		found, doubt := false, false
		for _, s := range r.Sources {
			match, known := j.source(&s)
			found, doubt = found || match, doubt || !known
		}
		ok = found || doubt
		j.bad = j.bad || doubt
	}
	if r.NetworkAttributes != nil {
		ok = j.ports(r.NetworkAttributes.Ports) && ok
	}
	if r.Authorization != nil {
		ok = j.attributes(r.Authorization) && ok
	}
	return ok
}

func (j *judge) source(s *v1alpha1.AuthorizationSource) (match, known bool) {
	switch {
	case s.Type == "ServiceAccount" && s.ServiceAccount != nil && s.SPIFFE == nil:
		namespace := j.object.policy.Namespace
		if s.ServiceAccount.Namespace != nil {
			namespace = string(*s.ServiceAccount.Namespace)
		}
		if namespace == "" || s.ServiceAccount.Name == "" {
			return false, false
		}
		return j.client[0] == "home" && j.client[1] == namespace && (s.ServiceAccount.Name == "*" || s.ServiceAccount.Name == j.client[2]), true
	case s.Type == "SPIFFE" && s.SPIFFE != nil && s.ServiceAccount == nil:
		if !regexp.MustCompile(`^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$`).MatchString(*s.SPIFFE) {
			return false, false
		}
		return j.client[0] != "" && *s.SPIFFE == "spiffe://"+j.client[0]+"/ns/"+j.client[1]+"/sa/"+j.client[2], true
	}
	return false, false
}

func (j *judge) ports(ports []gatewayv1.PortNumber) bool {
	for _, p := range ports {
		if p < 1 || p > 65535 {
			return j.doubt()
		}
	}
	return len(ports) == 0 || slices.Contains(ports, j.port)
}

// attributes judges what a rule says of requests. A connection without requests that can be
// read does not match where a match allows, and does where it denies.
func (j *judge) attributes(a *v1alpha1.AuthorizationAttributes) bool {
	inline := len(a.Methods)+len(a.Hosts)+len(a.Paths)+len(a.Headers)+len(a.Ports) > 0
	if j.object.policy.Spec.EnforcementLevel != "Application" ||
		a.Type != "CEL" && (a.Type != "Inline" || a.CEL != nil) || a.Type == "CEL" && (a.CEL == nil || inline) {
		j.doubt()
	}
	ok := j.ports(a.Ports)
	if a.Type == "CEL" && a.CEL != nil {
		ok = j.expression(a.CEL.Expression) && ok
	}
	each := func(n int, known func(int) bool, match func(int) bool) bool {
		found := n == 0
		for i := range n {
			if !known(i) {
				return j.doubt()
			}
			if j.method == "" {
				found = j.wide
			} else {
				found = found || match(i)
			}
		}
		return found
	}
	ok = each(len(a.Methods), func(i int) bool {
		return strings.Contains(" GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH ", " "+string(a.Methods[i])+" ")
	},
		func(i int) bool { return string(a.Methods[i]) == j.method }) && ok
	ok = each(len(a.Hosts), func(i int) bool { return regexp.MustCompile(`^(\*\.)?[a-zA-Z0-9.-]+$`).MatchString(string(a.Hosts[i])) },
		func(i int) bool {
			name, below := strings.CutPrefix(strings.ToLower(string(a.Hosts[i])), "*")
			host, _, _ := strings.Cut(strings.ToLower(j.host), ":")
			return below && strings.HasSuffix(host, name) || name == host
		}) && ok
	// Each reading of a path is in the list, or not.
	in := 0
	for _, reading := range append([]string{}, j.paths...) {
		if each(len(a.Paths), func(i int) bool { return pathKnown(&a.Paths[i]) }, func(i int) bool { return pathFits(&a.Paths[i], reading) }) {
			in++
		}
	}
	if j.method == "" {
		ok = each(len(a.Paths), func(i int) bool { return pathKnown(&a.Paths[i]) }, nil) && ok
	} else {
		ok = ok && (in == len(j.paths) || j.wide && in > 0)
	}
	for i := range a.Headers {
		ok = j.header(&a.Headers[i]) && ok
	}
	return ok
}

func pathKnown(p *gatewayv1.HTTPPathMatch) bool {
	switch {
	case p.Type == nil || *p.Type == "PathPrefix":
		return p.Value == nil || *p.Value == "" || (*p.Value)[0] == '/' && !strings.Contains(*p.Value, "//") && !strings.Contains(*p.Value, "..")
	case *p.Type == "Exact":
		return p.Value == nil || *p.Value == "" || (*p.Value)[0] == '/' && !strings.Contains(*p.Value, "//") && !strings.Contains(*p.Value, "..")
	case *p.Type == "RegularExpression":
		_, err := regexp.Compile(*p.Value)
		return err == nil
	}
	return false
}

func pathFits(p *gatewayv1.HTTPPathMatch, path string) bool {
	value := "/"
	if p.Value != nil && *p.Value != "" {
		value = *p.Value
	}
	switch {
	case p.Type == nil || *p.Type == "PathPrefix":
		want := strings.FieldsFunc(value, func(r rune) bool { return r == '/' })
		got := strings.Split(strings.TrimPrefix(path, "/"), "/")
		return len(got) >= len(want) && slices.Equal(got[:len(want)], want)
	case *p.Type == "Exact":
		return path == value
	}
	return regexp.MustCompile("^(?s:" + value + ")$").MatchString(path)
}

func (j *judge) header(h *gatewayv1.HTTPHeaderMatch) bool {
	name := strings.ToLower(string(h.Name))
	pattern := regexp.QuoteMeta(h.Value)
	if h.Type != nil && *h.Type == "RegularExpression" {
		pattern = h.Value
	} else if h.Type != nil && *h.Type != "Exact" {
		return j.doubt()
	}
	re, err := regexp.Compile("^(?s:" + pattern + ")$")
	if err != nil || h.Value == "" || name == "" || name == "host" || strings.Contains(name, ":") {
		return j.doubt()
	}
	if j.method == "" {
		return j.wide
	}
	lines, in := 0, 0
	for _, f := range j.headers {
		if f[0] == name {
			lines++
			if re.MatchString(f[1]) {
				in++
			}
		}
	}
	return in > 0 && (in == lines || j.wide)
}

// condition is an expression.
type condition struct {
	text   string
	header string // the field that it reads
	means  func(c *call, path, header string) bool
}

// conditions are expressions, and what they mean for one reading of a request: its path, and
// the value of a header field. Without a meaning it is no condition.
var conditions = []condition{
	{"request.method == 'GET'", "", func(c *call, _, _ string) bool { return c.method == "GET" }},
	{"request.path.startsWith('/a/') || request.path == '/a'", "", func(_ *call, path, _ string) bool { return path == "/a" || strings.HasPrefix(path, "/a/") }},
	{"request.query == 'q=/a' && request.path != '/b'", "", func(_ *call, path, _ string) bool { return path != "/b" }},
	{"request.host == 'shop.example'", "", func(c *call, _, _ string) bool { return strings.HasPrefix(strings.ToLower(c.host), "shop.example") }},
	{"request.headers['x-role'] == 'admin'", "x-role", func(_ *call, _, header string) bool { return header == "admin" }},
	{"request.headers['X-Team'] != 'guest'", "x-team", func(_ *call, _, header string) bool { return header != "guest" }},
	{"request.headers['x-role'].size() < 12", "x-role", func(_ *call, _, header string) bool { return len(header) < 12 }},
	{"source.namespace == 'a' && destination.port == 80", "", func(c *call, _, _ string) bool { return c.client[1] == "a" && c.port == 80 }},
	{"source.identity == '' || source.trustDomain == 'away'", "", func(c *call, _, _ string) bool { return c.client[0] == "" || c.client[0] == "away" }},
	{"!has(auth.claims.sub) && auth.principal == ''", "", func(*call, string, string) bool { return true }},
	{"request.path", "", nil},
	{"source.account == 'x'", "", nil},
}

// expression judges a condition. All readings of the request have to give the same.
func (j *judge) expression(text string) bool {
	c := condition{means: func(*call, string, string) bool { return true }} // "true"
	if i := slices.IndexFunc(conditions, func(c condition) bool { return c.text == text }); i >= 0 {
		c = conditions[i]
	}
	switch {
	case c.means == nil:
		return j.doubt()
	case j.method == "":
		return j.wide
	}
	var headers []string
	for _, f := range j.headers {
		if f[0] == c.header {
			headers = append(headers, f[1])
		}
	}
	switch {
	case c.header == "":
		headers = []string{""}
	case len(headers) == 0:
		return j.wide
	case len(headers) > 1:
		headers = append(headers, strings.Join(headers, ","))
	}
	results := map[bool]bool{}
	for _, path := range j.paths {
		for _, header := range headers {
			results[c.means(j.call, path, header)] = true
		}
	}
	return len(results) == 2 && j.wide || len(results) == 1 && results[true]
}
