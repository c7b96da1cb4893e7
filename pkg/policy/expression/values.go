package expression

import (
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/underlane/underlane/pkg/policy/authz"
)

// claims returns the claims of a token. Without one there are none.
func claims(c authz.Claims) ref.Val {
	var object map[string]any
	if c != nil {
		object = c.Object()
	}
	return types.NewStringInterfaceMap(adapter{}, object)
}

// number is a number of JSON.
type number interface {
	Int64() (int64, error)
	Float64() (float64, error)
}

// adapter makes values of CEL of what JSON is decoded to: an integer of a number without a
// fraction that is not too large, otherwise a double.
type adapter struct{}

// NativeToValue implements types.Adapter.
func (a adapter) NativeToValue(value any) ref.Val {
	switch v := value.(type) {
	case ref.Val:
		return v
	case map[string]any:
		return types.NewStringInterfaceMap(a, v)
	case []any:
		return types.NewDynamicList(a, v)
	case number:
		if i, err := v.Int64(); err == nil {
			return types.Int(i)
		}
		if f, err := v.Float64(); err == nil {
			return types.Double(f)
		}
		return types.NewErr("a number is out of range")
	}
	return types.DefaultTypeAdapter.NativeToValue(value)
}
