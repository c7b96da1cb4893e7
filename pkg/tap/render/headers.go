package render

import (
	"unicode/utf8"

	"github.com/underlane/underlane/pkg/tap"
)

// jsonHeaders are the fields of a head. Without any, Headers is an empty list.
type jsonHeaders struct {
	Headers []jsonHeader `json:"headers"`
	Cut     bool         `json:"headersCut,omitempty"` // some are left out, or a value is cut
}

// jsonHeader has Linkerd's shape: valueStr, or valueBin (base64) where the value is not
// UTF-8.
type jsonHeader struct {
	Name     string  `json:"name"`
	ValueStr *string `json:"valueStr,omitempty"`
	ValueBin []byte  `json:"valueBin,omitempty"`
}

func headersJSON(h *tap.Headers) jsonHeaders {
	out := jsonHeaders{Headers: []jsonHeader{}}
	if h == nil {
		return out
	}
	out.Cut = h.Cut
	for _, f := range h.List {
		field := jsonHeader{Name: f.Name}
		if utf8.ValidString(f.Value) {
			field.ValueStr = &f.Value
		} else {
			field.ValueBin = []byte(f.Value)
		}
		out.Headers = append(out.Headers, field)
	}
	return out
}
