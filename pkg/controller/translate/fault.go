package translate

import (
	"errors"
	"fmt"
	"math"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
)

// reasonFilterNotFound is a reason of the condition ResolvedRefs. The specification
// has no reason for filters.
const reasonFilterNotFound gatewayv1.RouteConditionReason = "FilterNotFound"

func isFault(ref *gatewayv1.LocalObjectReference) bool {
	return ref != nil && ref.Group == custom.Group && string(ref.Kind) == custom.HTTPFaults.Kind
}

// fault resolves a filter of type ExtensionRef. A filter must not be skipped: if
// the fault does not exist, the requests are refused.
func (d *routeDraft) fault(ref *gatewayv1.LocalObjectReference, out *mesh.RouteFilters, where string) {
	found := d.t.fault(d.meta.Namespace, string(ref.Name))
	if found == nil {
		out.Invalid = fmt.Sprintf("there is no HTTPFault %s/%s", d.meta.Namespace, ref.Name)
		d.unresolved = append(d.unresolved, verdict{reasonFilterNotFound, where + ": " + out.Invalid})
		return
	}
	fault, err := FaultOf(&found.Spec)
	if unknown := custom.UnknownFields(found); unknown != nil {
		err = fmt.Errorf("the field %s is not known", unknown[0])
	}
	if err != nil {
		out.Invalid = fmt.Sprintf("HTTPFault %s/%s: %v", d.meta.Namespace, ref.Name, err)
		d.reject(gatewayv1.RouteReasonUnsupportedValue, "%s: %s", where, out.Invalid)
		d.refusals++
		return
	}
	out.Fault = fault
}

// FaultOf translates a fault. The error says what is wrong with it.
func FaultOf(spec *custom.HTTPFaultSpec) (*mesh.RouteFault, error) {
	out := &mesh.RouteFault{}
	if spec.Delay == nil && spec.Abort == nil {
		return nil, errors.New("has neither delay nor abort")
	}
	var err error
	if s := spec.Delay; s != nil {
		if out.Delay, err = gepDurationOf(s.Duration); err != nil {
			return nil, fmt.Errorf("delay: %w", err)
		}
		if out.DelayShare, err = percent(s.Percent); err != nil {
			return nil, fmt.Errorf("delay: %w", err)
		}
	}
	if s := spec.Abort; s != nil {
		if s.Status < 0 || s.Status > math.MaxUint16 || s.GRPCStatus < 0 || s.GRPCStatus > math.MaxUint8 {
			return nil, fmt.Errorf("abort: status %d, gRPC status %d", s.Status, s.GRPCStatus)
		}
		if s.Status == 0 && s.GRPCStatus == 0 { // it would do nothing
			return nil, errors.New("abort: has no status")
		}
		out.AbortStatus, out.AbortGRPC = int(s.Status), int(s.GRPCStatus)
		if out.AbortShare, err = percent(s.Percent); err != nil {
			return nil, fmt.Errorf("abort: %w", err)
		}
	}
	// Otherwise an invalid fault would make the whole route invalid.
	return out, route.Check(&mesh.Route{Rules: []mesh.RouteRule{{Filters: mesh.RouteFilters{Fault: out}}}})
}

// percent converts a percentage. nil stands for all requests.
func percent(p *int32) (mesh.Fraction, error) {
	switch {
	case p == nil:
		return mesh.Fraction{}, nil
	case *p < 0 || *p > 100:
		return mesh.Fraction{}, fmt.Errorf("%d percent", *p)
	}
	return mesh.Fraction{Numerator: uint32(*p), Denominator: 100}, nil
}
