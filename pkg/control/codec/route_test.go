package codec

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
)

// fullRoute has every field set, so that one which is added and not encoded
// makes TestRouteEncodingKeepsEverything fail.
func fullRoute() *mesh.Route {
	r := &mesh.Route{}
	fill(reflect.ValueOf(r).Elem())
	return r
}

func fill(v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
		return
	}
	if v.Type() == reflect.TypeFor[netip.Addr]() {
		v.Set(reflect.ValueOf(netip.MustParseAddr("10.1.2.3")))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("a")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	default:
		panic(v.Type())
	}
}

func TestRouteEncodingKeepsEverything(t *testing.T) {
	for name, r := range map[string]*mesh.Route{"everything": fullRoute(), "nothing": {}} {
		delta, skipped, err := DecodeDelta(overWire(t, EncodeRoute(r)))
		if err != nil || len(skipped) > 0 {
			t.Fatal(name, err, skipped)
		}
		if diff := cmp.Diff(r, delta.Resources[0].Route, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Error(name, diff)
		}
	}
}

// TestWhatIsNotUnderstoodIsLeftOut: a controller that is newer than the agent
// does no harm to the rest.
func TestWhatIsNotUnderstoodIsLeftOut(t *testing.T) {
	change := func(edit func(*pb.Route)) *pb.Resource {
		r := EncodeRoute(fullRoute())
		edit(r.GetRoute())
		return r
	}
	kind := &pb.Resource{Name: "policy/x", Version: "1"}
	kind.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 100, protowire.BytesType), []byte("new")))
	for name, r := range map[string]*pb.Resource{
		"kind":          kind,
		"path match":    change(func(r *pb.Route) { r.Rules[0].Matches[0].PathKind = 9 }),
		"path rewrite":  change(func(r *pb.Route) { r.Rules[0].Filters.Rewrite.Path.Kind = 9 }),
		"redirect path": change(func(r *pb.Route) { r.Rules[0].Filters.Redirect.Path.Kind = 9 }),
		"port":          change(func(r *pb.Route) { r.Rules[0].Backends[0].Service.Port = 1 << 16 }),
		"status":        change(func(r *pb.Route) { r.Rules[0].Retry.Codes[0] = 1 << 16 }),
		"duration":      change(func(r *pb.Route) { r.Rules[0].RequestTimeout.Nanos = 2e9 }),
	} {
		d := overWire(t, r)
		d.Resources = append(d.Resources, EncodeWorkload(pod("a", "n1", podA)))
		delta, skipped, err := DecodeDelta(d)
		if err != nil || len(skipped) != 1 {
			t.Errorf("%s: %v, skipped %v", name, err, skipped)
		}
		if len(delta.Resources) != 1 || !slices.Equal(delta.Removed, []string{r.Name}) {
			t.Errorf("%s: got %+v", name, delta)
		}
	}
}

// TestUnknownAuthorizerRefuses: a route whose authorizer an agent cannot ask is not left out,
// which would let its requests through.
func TestUnknownAuthorizerRefuses(t *testing.T) {
	r := &mesh.Route{Kind: "HTTPRoute", Rules: []mesh.RouteRule{{Filters: mesh.RouteFilters{External: &mesh.ExternalAuth{GRPC: true}}}}}
	known := EncodeRoute(r)
	if known.GetRoute().GetRules()[0].GetFilters().GetInvalid() == "" {
		t.Error("an agent that does not know of authorizers would let the requests through")
	}
	future := EncodeRoute(r)
	future.GetRoute().GetRules()[0].GetFilters().GetExternalAuth().ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	for name, tc := range map[string]struct {
		in      *pb.Resource
		refuses bool
	}{"known": {known, false}, "future": {future, true}} {
		delta, skipped, err := DecodeDelta(overWire(t, tc.in))
		if err != nil || len(skipped) > 0 {
			t.Fatal(name, err, skipped)
		}
		f := delta.Resources[0].Route.Rules[0].Filters
		if (f.Invalid != "") != tc.refuses || !tc.refuses && f.External == nil {
			t.Errorf("%s: %+v", name, f)
		}
	}
}
