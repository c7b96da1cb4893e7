package mesh

import (
	"strconv"
	"strings"
)

// SettingText is a setting in the words of its annotation.
type SettingText struct{ Name, Value string }

// SettingTexts returns the settings that hold for w, in the words of the annotations of
// docs/reference/settings.md without their prefix: its policy and its fail mode, and of the
// others those that are not as they are without an annotation. It is empty if w is not in
// the mesh.
func (w *Workload) SettingTexts() (all []SettingText) {
	if !w.Meshed {
		return nil
	}
	add := func(annotation, value string) {
		if value != "" {
			all = append(all, SettingText{strings.TrimPrefix(annotation, "underlane.io/"), value})
		}
	}
	s := &w.Settings
	policy, failMode := s.Policy.String(), "open"
	if w.Authorized {
		policy = "by authorization policies"
	}
	if s.FailClosed {
		failMode = "closed"
	}
	add(AnnotationPolicy, policy)
	add(AnnotationFailMode, failMode)
	if s.PlaintextFallback {
		add(AnnotationPlaintextFallback, "allowed")
	}
	add(AnnotationSkipOutboundPorts, rangesText(s.SkipOutboundPorts))
	add(AnnotationSkipInboundPorts, rangesText(s.SkipInboundPorts))
	add(AnnotationOpaquePorts, rangesText(s.OpaquePorts))
	add(AnnotationRateLimit, s.RateLimit.text())
	add(AnnotationClientRateLimit, s.ClientRateLimit.text())
	if s.AccessLog != AccessLogNone {
		add(AnnotationAccessLog, s.AccessLog.String())
	}
	if s.TraceSampling != nil {
		add(AnnotationTraceSampling, s.TraceSampling.String())
	}
	if s.Ingress {
		add(AnnotationIngress, "enabled")
	}
	if w.NetworkPolicy {
		add(AnnotationSameNode, "wire")
	}
	return all
}

// rangesText writes port ranges as annotations have them.
func rangesText(ranges []PortRange) string {
	var out []string
	for _, r := range ranges {
		text := strconv.Itoa(int(r.First))
		if r.Last != r.First {
			text += "-" + strconv.Itoa(int(r.Last))
		}
		out = append(out, text)
	}
	return strings.Join(out, ",")
}

// text writes a limit: "100 in 1s, burst 200". It is "" for nil.
func (l *RateLimit) text() string {
	if l == nil {
		return ""
	}
	return strconv.Itoa(l.Count) + " in " + l.Period.String() + ", burst " + strconv.Itoa(l.Burst)
}
