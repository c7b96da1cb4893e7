package codec

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	exprpb "google.golang.org/genproto/googleapis/api/expr/v1alpha1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/limit/lease"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/expression"
	"github.com/underlane/underlane/pkg/state"
)

// fillAuthz sets everything in v to a value that is not zero, each to another one.
func fillAuthz(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString("s" + string(rune('a'+*n%26)))
	case reflect.Uint8:
		v.SetUint(1)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(100000 + *n))
	case reflect.Uint32:
		v.SetUint(uint64(100000 + *n))
	case reflect.Uint16:
		v.SetUint(uint64(1000 + *n))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillAuthz(v.Index(0), n)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[mesh.Identity]() {
			v.Set(reflect.ValueOf(mesh.Identity{TrustDomain: "td", Namespace: "n", ServiceAccount: "s"}))
			return
		}
		if v.Type() == reflect.TypeFor[netip.Prefix]() {
			v.Set(reflect.ValueOf(netip.MustParsePrefix("10.1.0.0/16")))
			return
		}
		if v.Type() == reflect.TypeFor[netip.Addr]() {
			v.Set(reflect.ValueOf(netip.MustParseAddr("10.1.2.3")))
			return
		}
		for i := range v.NumField() {
			fillAuthz(v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.ValueOf(&mesh.Route{
			Kind: "HTTPRoute", Namespace: "n", Name: "r", Created: time.Unix(1, 0).UTC(), Hostnames: []string{"a.b"},
			Rules: []mesh.RouteRule{{
				Matches: []mesh.RouteMatch{{Path: mesh.PathMatch{Kind: mesh.PathExact, Value: "/x"}, Method: "GET", Headers: []mesh.ValueMatch{{Name: "h", Value: "v", Regex: true}}}},
				Filters: mesh.RouteFilters{Invalid: "filters"},
			}},
		}))
	case reflect.Interface: // Predicate: of a condition of that kind alone
	default:
		panic(v.Type().String())
	}
}

// checked is the expression true.
func checked(t *testing.T) *expression.Program {
	t.Helper()
	message, err := proto.Marshal(&exprpb.CheckedExpr{Expr: &exprpb.Expr{Id: 1, ExprKind: &exprpb.Expr_ConstExpr{
		ConstExpr: &exprpb.Constant{ConstantKind: &exprpb.Constant_BoolValue{BoolValue: true}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := expression.New(message)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func whole(t *testing.T) *authz.Spec {
	t.Helper()
	spec, n := &authz.Spec{}, 0
	fillAuthz(reflect.ValueOf(spec).Elem(), &n)
	rule := &spec.Groups[0].Policies[0].Rules[0]
	one := rule.When[0]
	of := func(kind authz.ConditionKind) authz.Condition {
		c := authz.Condition{Kind: kind, Name: "x", Claim: []string{"a", "b"}, Values: one.Values, NotValues: one.NotValues}
		switch kind {
		case authz.ConditionSource:
			c.Source = one.Source
		case authz.ConditionOperation:
			c.Operation = one.Operation
		case authz.ConditionPredicate:
			c.Predicate = checked(t)
		}
		return c
	}
	rule.When = []authz.Condition{
		of(authz.ConditionHeader), of(authz.ConditionClaim), of(authz.ConditionSource), of(authz.ConditionOperation), of(authz.ConditionPredicate),
	}
	spec.Limits[0].Where.When = rule.When
	for i := range spec.Tokens {
		spec.Tokens[i].Timeout = 0 // agents do not have it
	}
	return spec
}

func TestAuthz(t *testing.T) {
	want := whole(t)
	delta := &pb.Delta{Resources: []*pb.Resource{EncodeAuthz("u", want)}}
	got, skipped, err := DecodeDelta(delta)
	if err != nil || len(skipped) > 0 || len(got.Resources) != 1 {
		t.Fatal(err, skipped, got)
	}
	if diff := cmp.Diff(want, got.Resources[0].Authz.Rules.Spec(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error("-want +got:", diff)
	}
	if name := got.Resources[0].Name; name != state.AuthzName("u") {
		t.Errorf("name %q, want %q", name, state.AuthzName("u"))
	}
}

// TestAuthzFailsClosed: what the agent does not understand of policies admits nobody.
func TestAuthzFailsClosed(t *testing.T) {
	later := protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1)
	everybody := func(action authz.Action) *authz.Spec {
		return &authz.Spec{TrustDomain: "td", Groups: []authz.Group{{
			Name: "g", Default: authz.ModeAllUnauthenticated,
			Policies: []authz.Policy{{Name: "p", Action: action, Rules: []authz.Rule{{From: []authz.Source{{Namespaces: []authz.Match{{Value: "n"}}}}}}}},
		}}}
	}
	connection := &authz.Connection{Peer: authz.PeerOf(mesh.Identity{TrustDomain: "td", Namespace: "n", ServiceAccount: "s"}), Port: 80}
	if w, _ := authz.CompileWorkload(everybody(authz.ActionAllow)); w.DecideConnection(connection).Verdict != authz.Allow {
		t.Fatal("the client is denied even if everything is known")
	}
	// A field that is not known can only make a rule match less: it is left out, and the
	// rule denies what the rest of it matches.
	deny := everybody(authz.ActionDeny)
	for name, change := range map[string]func(*pb.Authz){
		"a field":             func(a *pb.Authz) { a.ProtoReflect().SetUnknown(later) },
		"a field of a group":  func(a *pb.Authz) { a.Groups[0].ProtoReflect().SetUnknown(later) },
		"a field of a policy": func(a *pb.Authz) { a.Groups[0].Policies[0].ProtoReflect().SetUnknown(later) },
		"a field of a rule":   func(a *pb.Authz) { a.Groups[0].Policies[0].Rules[0].ProtoReflect().SetUnknown(later) },
		"a field of a source": func(a *pb.Authz) { a.Groups[0].Policies[0].Rules[0].From[0].ProtoReflect().SetUnknown(later) },
		"a field deep in a rule": func(a *pb.Authz) {
			a.Groups[0].Policies[0].Rules[0].From[0].Namespaces[0].ProtoReflect().SetUnknown(later)
		},
		"no expression": func(a *pb.Authz) {
			a.Groups[0].Policies[0].Rules[0].When = []*pb.AuthzCondition{{Kind: uint32(authz.ConditionPredicate)}}
		},
		"an expression that is none": func(a *pb.Authz) {
			a.Groups[0].Policies[0].Rules[0].When = []*pb.AuthzCondition{{Kind: uint32(authz.ConditionPredicate), Expression: []byte("none")}}
		},
		"a kind of condition": func(a *pb.Authz) { a.Groups[0].Policies[0].Rules[0].When = []*pb.AuthzCondition{{Kind: 300}} },
		"a condition on nothing": func(a *pb.Authz) {
			a.Groups[0].Policies[0].Rules[0].When = []*pb.AuthzCondition{{Kind: uint32(authz.ConditionSource)}}
		},
		"a field of a route": func(a *pb.Authz) {
			a.Groups[0].Routes = []*pb.AuthzRoute{{Name: "r", Route: &pb.Route{}}}
			a.Groups[0].Routes[0].Route.ProtoReflect().SetUnknown(later)
		},
		"a route without a match": func(a *pb.Authz) { a.Groups[0].Routes = []*pb.AuthzRoute{{Name: "r"}} },
		"a field of a rate limit": func(a *pb.Authz) {
			a.RateLimits = []*pb.AuthzRateLimit{{Policy: "p"}}
			a.RateLimits[0].ProtoReflect().SetUnknown(later)
		},
		"an identity that is none": func(a *pb.Authz) {
			a.RateLimits = []*pb.AuthzRateLimit{{Overrides: []*pb.AuthzRateOverride{{Clients: []string{"x"}}}}}
		},
		"a range that is none": func(a *pb.Authz) { a.Groups[0].Ports = []*pb.PortRange{{First: 9, Last: 8}} },
		"a network that is none": func(a *pb.Authz) {
			a.Groups[0].Policies[0].Rules[0].From[0].Networks = []*pb.AuthzNetwork{{Cidr: &pb.Range{Addr: []byte{1}}}}
		},
		"a kind of match":         func(a *pb.Authz) { a.Groups[0].Policies[0].Rules[0].From[0].Namespaces[0].Kind = 300 },
		"a kind of authorization": func(a *pb.Authz) { a.Groups[0].Policies[0].Action = 256 },
	} {
		for action, spec := range map[string]*authz.Spec{"allow": everybody(authz.ActionAllow), "deny": deny} {
			resource := EncodeAuthz("u", spec)
			change(resource.GetAuthz())
			wire, err := proto.Marshal(resource)
			if err != nil {
				t.Fatal(err)
			}
			sent := &pb.Resource{}
			if err := proto.Unmarshal(wire, sent); err != nil {
				t.Fatal(err)
			}
			got, _, err := DecodeDelta(&pb.Delta{Resources: []*pb.Resource{sent}})
			if err != nil {
				t.Fatalf("%s: %v: the rest of the delta is lost", name, err)
			}
			var rules *authz.Workload
			if len(got.Resources) == 1 {
				rules = got.Resources[0].Authz.Rules
			}
			if d := rules.DecideConnection(connection); d.Verdict == authz.Allow {
				t.Errorf("%s that is not known, in a policy that would %s: got %+v, want denied", name, action, d.Outcome)
			}
		}
	}
}

// TestLimitFailsClosed: a limit with something that the agent does not know is about all
// requests, and the pod's other policies stay as they are.
func TestLimitFailsClosed(t *testing.T) {
	later := protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1)
	r := EncodeAuthz("u", &authz.Spec{Limits: []authz.Limit{{
		Requests: 1, Burst: 1, Per: time.Second, By: []authz.Distinct{{Kind: 200}},
		Where: authz.Rule{To: []authz.Operation{{Paths: []authz.Match{{Value: "/x"}}}}},
	}}})
	r.GetAuthz().GetLimits()[0].ProtoReflect().SetUnknown(later)
	got, skipped, err := DecodeDelta(&pb.Delta{Resources: []*pb.Resource{r}})
	if err != nil || len(skipped) > 0 {
		t.Fatal(err, skipped)
	}
	l := got.Resources[0].Authz.Rules.Limits()
	if len(l) != 1 || !l[0].Limits(&authz.Connection{}, &authz.Request{Path: "/other"}) {
		t.Errorf("got %+v, want a limit of all requests", l)
	}
}

// TestLimitMessages: reports and leases arrive as they were sent.
func TestLimitMessages(t *testing.T) {
	report := lease.Report{
		Seq: 3, Applied: 2, Gone: []uint64{7},
		Demands: []lease.Demand{{ID: 1, Limit: "l", Key: lease.Key{1, 2, 15: 3}, Rate: 1.5}, {ID: 2, Rate: 4}},
	}
	got, err := DecodeReport(EncodeReport(report))
	if diff := cmp.Diff(report, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	leases := lease.Leases{Seq: 3, Number: 4, Grants: []lease.Grant{{ID: 1, Rate: 2.5}}}
	if diff := cmp.Diff(leases, DecodeLeases(EncodeLeases(leases))); diff != "" {
		t.Error(diff)
	}
	if _, err := DecodeReport(&pb.LimitReport{Demands: []*pb.LimitDemand{{Limit: "l", Key: []byte("short")}}}); err == nil {
		t.Error("a short key: no error")
	}
}
