package translate

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// namespace holds the settings that pods inherit from their Namespace.
type namespace struct {
	label    string // LabelMesh, as it is understood
	settings mesh.Settings
	mode     defaultMode
	wire     bool          // true turns the same-node shortcut off
	policies []podSelector // of its NetworkPolicies
}

func (t *translation) readNamespace(o *corev1.Namespace, ns *namespace) {
	report := func(format string, args ...any) { t.problem("Namespace", "", o.Name, format, args...) }
	ns.label = meshLabel(o.Labels, mesh.LabelDisabled, report)
	ns.settings = settingsOf(o.Annotations, ns.settings, report)
	ns.mode = defaultModeOf(o.Annotations, ns.mode, report)
	switch v, ok := o.Annotations[mesh.AnnotationSameNode]; {
	case !ok || v == "shortcut":
	case v == "wire":
		ns.wire = true
	default:
		// wire is the safe choice, as for a NetworkPolicy that cannot be read.
		report("annotation %s: %q is neither shortcut nor wire; taken for wire", mesh.AnnotationSameNode, v)
		ns.wire = true
	}
}

// equal reports whether pods of both are the same, their NetworkPolicies aside.
func (ns *namespace) equal(other *namespace) bool {
	return ns.label == other.label && ns.wire == other.wire && sameMode(ns.mode, other.mode) && reflect.DeepEqual(ns.settings, other.settings)
}

// otherPolicies returns the selectors of NetworkPolicies that one of both does not have.
func (ns *namespace) otherPolicies(other *namespace) (out []podSelector) {
	for _, pair := range [][2]*namespace{{ns, other}, {other, ns}} {
		has := map[string]bool{}
		for _, s := range pair[1].policies {
			has[s.String()] = true
		}
		for _, s := range pair[0].policies {
			if !has[s.String()] {
				out = append(out, s)
			}
		}
	}
	return out
}

type reporter func(format string, args ...any)

// meshLabel reads the label, which has precedence over inherited.
func meshLabel(labels map[string]string, inherited string, report reporter) string {
	reportUnknown("label", labels, []string{mesh.LabelMesh}, report)
	switch v, ok := labels[mesh.LabelMesh]; {
	case !ok:
		return inherited
	case v == mesh.LabelEnabled, v == mesh.LabelDisabled, v == mesh.LabelObserve:
		return v
	default:
		report("label %s: %q is neither %s nor %s nor %s; it has no effect", mesh.LabelMesh, v, mesh.LabelEnabled, mesh.LabelDisabled, mesh.LabelObserve)
		return inherited
	}
}

// ownDomain is that of the label and of the annotations of pods and namespaces.
const ownDomain = "underlane.io/"

// knownAnnotations are the annotations of pods and namespaces.
var knownAnnotations = []string{
	mesh.AnnotationSkipOutboundPorts, mesh.AnnotationSkipInboundPorts, mesh.AnnotationOpaquePorts, mesh.AnnotationFailMode,
	mesh.AnnotationPolicy, mesh.AnnotationPlaintextFallback, mesh.AnnotationRateLimit, mesh.AnnotationClientRateLimit,
	mesh.AnnotationTraceSampling, mesh.AnnotationAccessLog, mesh.AnnotationIngress, mesh.AnnotationSameNode,
	mesh.AnnotationStatus, mesh.AnnotationEnrolled,
}

// reportUnknown reports names of Underlane's domain that are not among the known ones: what is
// misspelt has no effect, and its author believes that it has.
func reportUnknown(what string, names map[string]string, known []string, report reporter) {
	var unknown []string
	for name := range names {
		if strings.HasPrefix(name, ownDomain) && !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		report("%s %s: is not known; it has no effect", what, name)
	}
}

// settingsOf reads the annotations, each of which has precedence over inherited. A value that
// is not known is reported, and never allows more than any value that is known: it is taken for
// the closed one of two, ports for none, and a rate for one that lets in no request. It has no
// effect where nothing is allowed or refused by the annotation.
func settingsOf(annotations map[string]string, inherited mesh.Settings, report reporter) mesh.Settings {
	s := inherited
	if len(annotations) == 0 {
		return s
	}
	reportUnknown("annotation", annotations, knownAnnotations, report)
	for name, out := range map[string]*[]mesh.PortRange{
		mesh.AnnotationSkipOutboundPorts: &s.SkipOutboundPorts,
		mesh.AnnotationSkipInboundPorts:  &s.SkipInboundPorts,
		mesh.AnnotationOpaquePorts:       &s.OpaquePorts,
	} {
		if v, ok := annotations[name]; ok {
			ranges, err := parsePorts(v)
			if err != nil { // a port that is skipped or opaque passes policies by
				report("annotation %s: %v; taken for no port", name, err)
			}
			*out = ranges
		}
	}
	for name, out := range map[string]**mesh.RateLimit{
		mesh.AnnotationRateLimit:       &s.RateLimit,
		mesh.AnnotationClientRateLimit: &s.ClientRateLimit,
	} {
		if v, ok := annotations[name]; ok {
			rate, err := parseRateLimit(v)
			if err != nil {
				report("annotation %s: %v; no request is let in", name, err)
				rate = unreadRate
			}
			*out = rate
		}
	}
	if v, ok := oneOf(annotations, mesh.AnnotationFailMode, "open", "closed", "closed", report); ok {
		s.FailClosed = v == "closed"
	}
	if v, ok := oneOf(annotations, mesh.AnnotationPlaintextFallback, "never", "allowed", "never", report); ok {
		s.PlaintextFallback = v == "allowed"
	}
	if v, ok := oneOf(annotations, mesh.AnnotationIngress, mesh.LabelEnabled, mesh.LabelDisabled, mesh.LabelDisabled, report); ok {
		s.Ingress = v == mesh.LabelEnabled
	}
	if v, ok := annotations[mesh.AnnotationTraceSampling]; ok {
		if sampling, err := mesh.ParseTraceSampling(v); err != nil {
			report("annotation %s: %v; it has no effect", mesh.AnnotationTraceSampling, err)
		} else {
			s.TraceSampling = &sampling
		}
	}
	if v, ok := annotations[mesh.AnnotationAccessLog]; ok {
		if format, err := mesh.ParseAccessLog(v); err != nil {
			report("annotation %s: %v; it has no effect", mesh.AnnotationAccessLog, err)
		} else {
			s.AccessLog = format
		}
	}
	switch v, ok := annotations[mesh.AnnotationPolicy]; {
	case !ok:
	case v == mesh.PolicyAllow.String():
		s.Policy = mesh.PolicyAllow
	case v == mesh.PolicyStrict.String():
		s.Policy = mesh.PolicyStrict
	default: // defaultModeOf has the mode, and denies if it is not known
		if _, err := authz.ParseMode(v); err == nil {
			s.Policy = mesh.PolicyAllow
		}
	}
	return s
}

// oneOf returns the value of an annotation that has one of two values. Another value is reported
// and taken for closed, which is one of the two. ok is false if there is no such annotation.
func oneOf(annotations map[string]string, name, first, second, closed string, report reporter) (value string, ok bool) {
	value, ok = annotations[name]
	if ok && value != first && value != second {
		report("annotation %s: %q is neither %s nor %s; taken for %s", name, value, first, second, closed)
		value = closed
	}
	return value, ok
}

// parsePorts parses a list of ports and inclusive ranges, "25,9000-9100". The
// empty string is the empty list.
func parsePorts(s string) ([]mesh.PortRange, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var out []mesh.PortRange
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := parsePort(first)
		if err != nil {
			return nil, err
		}
		to, err := parsePort(last)
		if err != nil {
			return nil, err
		}
		if from > to {
			return nil, fmt.Errorf("range %q ends before it begins", strings.TrimSpace(part))
		}
		out = append(out, mesh.PortRange{First: from, Last: to})
	}
	return out, nil
}

func parsePort(s string) (uint16, error) {
	s = strings.TrimSpace(s)
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port (want 1 to 65535, as in 25,3306,9000-9100)", s)
	}
	return uint16(n), nil
}
