package mesh

import (
	"net/netip"
	"reflect"
	"testing"
)

// TestWorkloadAlike: each field makes a difference, those that are added later, too.
func TestWorkloadAlike(t *testing.T) {
	full := func() *Workload {
		w := &Workload{}
		fill(t, reflect.ValueOf(w).Elem())
		return w
	}
	if !full().Alike(full()) {
		t.Fatal("equal workloads differ")
	}
	a, b := full(), full()
	if n := testing.AllocsPerRun(10, func() { a.Alike(b) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	each(reflect.TypeFor[Workload](), nil, func(path []int, name string) {
		other := full()
		reflect.ValueOf(other).Elem().FieldByIndex(path).SetZero()
		if full().Alike(other) || other.Alike(full()) {
			t.Errorf("%s makes no difference", name)
		}
		if alike := full().AlikeButReady(other); alike != (name == "Ready") {
			t.Errorf("%s: equal but for Ready: %v", name, alike)
		}
	})
}

// each calls do for each field of a Workload, those of Settings and Identity one by one.
func each(of reflect.Type, path []int, do func(path []int, name string)) {
	for i := range of.NumField() {
		f, at := of.Field(i), append(path[:len(path):len(path)], i)
		if f.Type.Kind() == reflect.Struct {
			each(f.Type, at, do)
		} else {
			do(at, f.Name)
		}
	}
}

// fill sets all fields to something.
func fill(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[netip.Addr]() {
			v.Set(reflect.ValueOf(netip.MustParseAddr("10.0.0.1")))
			return
		}
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(1)
	default:
		t.Fatalf("a field of type %s", v.Type())
	}
}
