package tapv1alpha1

import (
	"fmt"
	"net/url"
	"strconv"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
)

// queryText are the parameters of a tap that are text, by name.
var queryText = map[string]func(*agentv1.TapRequest) *string{
	"to":           func(r *agentv1.TapRequest) *string { return &r.To },
	"to-namespace": func(r *agentv1.TapRequest) *string { return &r.ToNamespace },
	"scheme":       func(r *agentv1.TapRequest) *string { return &r.Scheme },
	"method":       func(r *agentv1.TapRequest) *string { return &r.Method },
	"authority":    func(r *agentv1.TapRequest) *string { return &r.Authority },
	"path":         func(r *agentv1.TapRequest) *string { return &r.Path },
	// Kubernetes' own name, and its syntax.
	"labelSelector": func(r *agentv1.TapRequest) *string { return &r.Selector },
}

// Views by the name that the parameter has for them.
var views = map[string]agentv1.TapRequest_View{
	"both": agentv1.TapRequest_BOTH, "target": agentv1.TapRequest_TARGET, "once": agentv1.TapRequest_ONCE,
}

// HeadersIfAllowed is the value of the parameter headers that asks for the fields of heads
// and trailers, and for a warning instead where the caller has no right to see them. With
// "true" the call is refused then.
const HeadersIfAllowed = "if-allowed"

// Query writes r, but for its target, as parameters of a tap. kind, in the
// singular, narrows a tap of a namespace or of everything; it may be "".
func Query(r *agentv1.TapRequest, kind string) url.Values {
	q := url.Values{}
	for name, field := range queryText {
		if value := *field(r); value != "" {
			q.Set(name, value)
		}
	}
	if kind != "" {
		q.Set("kind", kind)
	}
	if r.GetMaxRps() != 0 {
		q.Set("max-rps", strconv.FormatFloat(r.GetMaxRps(), 'g', -1, 64))
	}
	if r.GetBuffer() != 0 {
		q.Set("buffer", strconv.FormatUint(uint64(r.GetBuffer()), 10))
	}
	if r.GetLegs() {
		q.Set("connections", "true")
	}
	if r.GetHeaders() {
		q.Set("headers", HeadersIfAllowed)
	}
	for name, view := range views {
		if view == r.GetView() {
			q.Set("view", name)
		}
	}
	return q
}

// ParseQuery reads what Query writes. Without a view it is that of the target's
// side. Parameters of Kubernetes' own that mean nothing here are ignored, unknown
// ones refused: a filter with a typing error in it would show too much.
func ParseQuery(q url.Values) (r *agentv1.TapRequest, kind string, err error) {
	r = &agentv1.TapRequest{View: agentv1.TapRequest_TARGET}
	for name, values := range q {
		value := values[len(values)-1]
		field, isText := queryText[name]
		switch {
		case isText:
			*field(r) = value
		case name == "kind":
			kind = value
		case name == "max-rps":
			r.MaxRps, err = strconv.ParseFloat(value, 64)
		case name == "buffer":
			var n uint64
			n, err = strconv.ParseUint(value, 10, 32)
			r.Buffer = uint32(n)
		case name == "connections":
			r.Legs, err = strconv.ParseBool(value)
		case name == "headers":
			if r.Headers = value == HeadersIfAllowed; !r.Headers {
				r.Headers, err = strconv.ParseBool(value)
			}
		case name == "view":
			view, ok := views[value]
			if !ok {
				err = fmt.Errorf("want both, target or once")
			}
			r.View = view
		case name == "timeout", name == "timeoutSeconds", name == "watch", name == "pretty":
		default:
			return nil, "", fmt.Errorf("there is no parameter %q", name)
		}
		if err != nil {
			return nil, "", fmt.Errorf("parameter %s=%s: %w", name, value, err)
		}
	}
	return r, kind, nil
}
