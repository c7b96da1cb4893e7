package authz

import "net/netip"

// Action is what a policy does where one of its rules matches. The zero Action is
// not known and denies.
type Action uint8

// The actions, in the order in which they are judged.
const (
	ActionUnknown Action = iota
	ActionExternal
	ActionDeny
	ActionAudit
	ActionAllow

	numActions
)

// wide reports whether a doubt counts as a match: it does where a match refuses.
func (a Action) wide() bool { return a == ActionExternal || a == ActionDeny }

// Policy is one policy that applies to the workload.
type Policy struct {
	Name     string // for decisions and problems: kind, namespace and name of the object
	Action   Action
	Provider string // ActionExternal: the authorizer to ask
	Rules    []Rule // without rules the policy matches nothing
	// Rehearse: the policy is not applied. Decision.Rehearsal says what the decision
	// would be if all such policies were applied too.
	Rehearse bool
	// Unknown names fields of the object that the front end does not know. All
	// rules fail closed.
	Unknown []string
}

// Rule matches if one of From, one of To and all of When match. An empty list
// matches always.
type Rule struct {
	Name string // may be empty
	From []Source
	To   []Operation
	When []Condition
	// Unknown names fields that the front end does not know. The rule fails closed.
	Unknown []string
}

// Source matches a client. A field without values is not looked at.
type Source struct {
	// Principals are SPIFFE IDs, with the scheme. A client without one has none:
	// it is never matched by Principals, and always by NotPrincipals.
	Principals, NotPrincipals []Match
	// ServiceAccounts are those of the workload's own trust domain.
	ServiceAccounts, NotServiceAccounts []ServiceAccount
	// Namespaces are those of mesh identities, whatever their trust domain.
	Namespaces, NotNamespaces     []Match
	TrustDomains, NotTrustDomains []Match
	// Networks hold the client's address as the server's node sees it.
	Networks, NotNetworks []Network
	// RequestPrincipals are "issuer/subject" of the request's verified token.
	RequestPrincipals, NotRequestPrincipals []Match
	Authentication                          Authentication
}

// Authentication says whether a Source wants a client with an identity.
type Authentication uint8

// The kinds of Authentication.
const (
	AnyAuthentication Authentication = iota
	Authenticated
	Unauthenticated
)

// ServiceAccount names one service account, or with the Name "*" all of a
// namespace.
type ServiceAccount struct{ Namespace, Name string }

// Network is an address range without the ranges Except.
type Network struct {
	CIDR   netip.Prefix
	Except []netip.Prefix
}

// Operation matches what a client does. A field without values is not looked at.
// All fields except ports need a request.
type Operation struct {
	// Ports are the workload's, not a Service's.
	Ports, NotPorts []PortRange
	// Hosts are matched with the request's authority in any case of letters and
	// without its port.
	Hosts, NotHosts     []Match
	Methods, NotMethods []Match
	// Paths are matched with the path without its query.
	Paths, NotPaths []Match
	// GRPC are matched with paths of the form /service/method, whatever else the
	// request says of itself.
	GRPC, NotGRPC []GRPCMethod
	// Routes are the names of the routes that a request may belong to:
	// Request.Route.
	Routes []string
}

// PortRange holds the ports First to Last, both included.
type PortRange struct{ First, Last uint16 }

// Port returns the range of one port.
func Port(p uint16) PortRange { return PortRange{p, p} }

// GRPCMethod is a full name of a service and a method of it. One of them may be
// empty, for any.
type GRPCMethod struct{ Service, Method string }

// ConditionKind says which fields of a Condition count. The zero kind is not known.
type ConditionKind uint8

// The kinds of Condition.
const (
	ConditionUnknown   ConditionKind = iota
	ConditionHeader                  // Name, Values, NotValues
	ConditionClaim                   // Claim, Values, NotValues
	ConditionSource                  // Source
	ConditionOperation               // Operation
	ConditionPredicate               // Predicate; without one the rule fails closed
)

// Condition is a further requirement of a Rule.
type Condition struct {
	Kind ConditionKind
	// Name is that of a header field, in lower case. ":authority" and ":method" are
	// not header fields: Operation has them. Of a ConditionPredicate without a Predicate it is
	// what is wrong with it.
	Name string
	// Claim is the path to a claim of the request's verified token: more than one
	// element for a claim within a claim. If the claim is a list, one of its
	// elements has to match.
	Claim             []string
	Values, NotValues []Match
	Source            Source
	Operation         Operation
	Predicate         Predicate
}

// Predicate is a compiled expression of any language: package expression has that of CEL. It
// must be pure and safe for concurrent use, and must not keep what it is given.
type Predicate interface {
	// Matches evaluates the expression. If it returns an error, the rule fails closed:
	// it does not allow, but it denies. The error's text is one of few and holds nothing
	// that a client has sent: decisions are told apart by it.
	Matches(*Connection, *Request) (bool, error)
}

// MatchKind says how a Match compares.
type MatchKind uint8

// The kinds of Match.
const (
	Exact    MatchKind = iota
	Prefix             // of the string, not of path segments: /info matches /information
	Suffix             // of the string
	Present            // any value except the empty one; Value is not used
	Regex              // RE2, matches the whole value
	Template           // paths only: {*} is one segment that is not empty, {**} any text; {**} is the last operator
)

// Match matches a string.
type Match struct {
	Kind  MatchKind
	Value string
}
