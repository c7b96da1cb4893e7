package request

import (
	"strings"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/mesh"
)

// OverrideFields are the fields by which a request of an ingress names the Service that it
// is for: ours, and Linkerd's. They are removed from such requests.
var OverrideFields = []string{"underlane-dst-override", "l5d-dst-override"}

// Override is what the override fields of a head say. The zero value is that of a head
// without any.
type Override struct {
	value string
	given bool
	vague bool // there are several, with different values
}

// Add takes a field of the head, if it is one of OverrideFields.
func (o *Override) Add(name, value string) {
	for _, field := range OverrideFields {
		if len(name) != len(field) || !strings.EqualFold(name, field) {
			continue
		}
		o.vague = o.vague || o.given && value != o.value
		o.value, o.given = value, true
	}
}

// Given reports whether the head has an override field.
func (o *Override) Given() bool { return o.given }

// Name finds the Service that a request of an ingress names, and records it in p and x. It
// returns the routes that apply. The error is a *mesh.ReasonError. Name must be called only
// if Target.Ingress is true, and before Route.
func (s *Session) Name(o *Override, authority string, p *Plan, x *Exchange) (*destination.Routing, error) {
	if o.vague || o.given && o.value == "" {
		return nil, mesh.Fail(mesh.ReasonBadOverride, nil)
	}
	to, err := s.Target.Named(o.value, authority)
	if err != nil {
		return nil, err
	}
	if to == nil {
		return s.Target.Routing(), nil
	}
	p.named = &to.Backend
	x.event.Service = to.Service
	return to.Routing, nil
}
