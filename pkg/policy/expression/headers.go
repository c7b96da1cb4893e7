package expression

import (
	"errors"
	"reflect"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/underlane/underlane/pkg/policy/authz"
)

// maxValues bounds the values of a header field that is repeated.
const maxValues = 8

// headers are the header fields of a request, as a map of CEL that is read by name. The
// name's case does not count.
type headers struct {
	fields authz.Fields
	of     *evaluation
	// A field with several values has several readings: each value by itself, and all of them
	// joined (RFC 9110 §5.3). readings is their number; 0: no field that was read is
	// repeated.
	readings int
	reading  int    // the current one
	repeated string // the name of the field
}

// Find implements traits.Mapper.
func (h *headers) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	value, ok := h.value(strings.ToLower(string(name)))
	if !ok {
		return nil, false
	}
	return types.String(value), true
}

func (h *headers) value(name string) (string, bool) {
	if h.fields == nil {
		return "", false
	}
	if h.alike(name) {
		return "", true
	}
	first, next, ok := h.fields.Next(name, 0)
	if !ok {
		return "", false
	}
	second, next, ok := h.fields.Next(name, next)
	if !ok {
		return first, true
	}
	all := []string{first, second}
	for value := ""; len(all) <= maxValues; all = append(all, value) {
		if value, next, ok = h.fields.Next(name, next); !ok {
			break
		}
	}
	if name == "cookie" { // RFC 9113 §8.2.3: one field that was taken apart
		return strings.Join(all, "; "), len(all) <= maxValues || h.tooMany()
	}
	if len(all) > maxValues || h.repeated != "" && h.repeated != name {
		return first, h.tooMany()
	}
	h.repeated, h.readings = name, len(all)+1
	if h.reading < len(all) {
		return all[h.reading], true
	}
	return strings.Join(all, ","), true
}

// tooMany makes the evaluation fail: there are more readings than are tried.
func (h *headers) tooMany() bool {
	h.of.err = ErrRepeated
	return true
}

// alike makes the evaluation fail if there is a field that only some servers take for the one of
// that name.
func (h *headers) alike(name string) bool {
	_, _, is := h.fields.Alike(name, 0)
	if is {
		h.of.err = ErrAlike
	}
	return is
}

var errByName = errors.New("header fields are read by name")

// Contains implements traits.Container.
func (h *headers) Contains(key ref.Val) ref.Val {
	name, ok := key.(types.String)
	if !ok || h.fields == nil {
		return types.False
	}
	lower := strings.ToLower(string(name))
	_, _, ok = h.fields.Next(lower, 0)
	return types.Bool(ok || h.alike(lower))
}

// Get implements traits.Indexer.
func (h *headers) Get(key ref.Val) ref.Val {
	if v, ok := h.Find(key); ok {
		return v
	}
	return types.NewErr("no such key")
}

// The rest of traits.Mapper and ref.Val: restrict lets no expression get here.

// Iterator implements traits.Iterable.
func (h *headers) Iterator() traits.Iterator {
	return types.NewDynamicMap(adapter{}, map[string]string{}).Iterator()
}

// Size implements traits.Sizer.
func (h *headers) Size() ref.Val { return types.WrapErr(errByName) }

// ConvertToNative implements ref.Val.
func (h *headers) ConvertToNative(reflect.Type) (any, error) { return nil, errByName }

// ConvertToType implements ref.Val.
func (h *headers) ConvertToType(ref.Type) ref.Val { return types.WrapErr(errByName) }

// Equal implements ref.Val.
func (h *headers) Equal(ref.Val) ref.Val { return types.WrapErr(errByName) }

// Type implements ref.Val.
func (h *headers) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (h *headers) Value() any { return h }
