package translate

import "github.com/underlane/underlane/pkg/controller/custom"

// parsed returns what read returns for o, or has returned before: to read thousands of
// policies takes longer than all the rest. The result must not be changed.
func parsed[T any](t *translation, o *custom.PolicyObject, read func() T) T {
	if out, ok := t.from.parsed[o].(T); ok {
		return out
	}
	out := read()
	t.from.parsed[o] = out
	return out
}
