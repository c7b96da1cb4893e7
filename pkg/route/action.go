package route

import (
	"fmt"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// compileActions makes one action for each backend with a weight above 0, or a
// single action if the rule answers requests itself.
func (r *Rule) compileActions(spec *mesh.RouteRule, grpc bool) error {
	var common Action
	if err := common.apply(&spec.Filters, spec, grpc); err != nil {
		return err
	}
	if common.Kind != Forward {
		r.actions = []Action{common}
		return nil
	}
	for i := range spec.Backends {
		b := &spec.Backends[i]
		action := common
		action.Backend, action.Original = b.Service, b.Original
		if err := action.apply(&b.Filters, spec, grpc); err != nil {
			return fmt.Errorf("backend %d: %w", i, err)
		}
		switch {
		case b.Weight == 0:
			continue
		case b.Invalid != "":
			action.refuse(b.Invalid)
		case action.Kind == Forward && b.Service.Port == 0 && !b.Original:
			return fmt.Errorf("backend %d: no port", i)
		}
		r.total += uint64(b.Weight)
		action.upTo = r.total
		r.actions = append(r.actions, action)
	}
	if len(r.actions) == 0 {
		common.refuse("the rule has no backend with a weight")
		r.actions = []Action{common}
	}
	return nil
}

func (a *Action) refuse(why string) { a.Kind, a.Why = Refuse, why }

// apply merges filters into the action, after the ones it has already.
func (a *Action) apply(f *mesh.RouteFilters, spec *mesh.RouteRule, grpc bool) (err error) {
	if a.Request, err = a.Request.with(f.RequestHeaders); err != nil {
		return fmt.Errorf("request headers: %w", err)
	}
	if a.Response, err = a.Response.with(f.ResponseHeaders); err != nil {
		return fmt.Errorf("response headers: %w", err)
	}
	if grpc && (f.Redirect != nil || f.Rewrite != nil) {
		return fmt.Errorf("gRPC calls can neither be redirected nor rewritten")
	}
	if f.Redirect != nil && (f.Rewrite != nil || a.Host != "" || a.path.Kind != mesh.PathKeep) {
		return fmt.Errorf("both a redirect and a rewrite")
	}
	if f.Redirect != nil {
		if err := a.applyRedirect(f.Redirect, spec); err != nil {
			return fmt.Errorf("redirect: %w", err)
		}
	}
	if f.Rewrite != nil {
		if err := a.applyRewrite(f.Rewrite, spec); err != nil {
			return fmt.Errorf("rewrite: %w", err)
		}
	}
	if a.Mirrors, err = withMirrors(a.Mirrors, f.Mirrors); err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	if f.Fault != nil {
		if err := checkFault(f.Fault); err != nil {
			return fmt.Errorf("fault: %w", err)
		}
		a.Fault = &Fault{*f.Fault}
	}
	if f.External != nil {
		switch {
		case a.External != nil:
			return fmt.Errorf("two external authorizers for a request")
		case f.External.Service.Port == 0:
			return fmt.Errorf("external authorizer: no port")
		}
		a.External = f.External
	}
	if a.External != nil && a.Kind == Redirect {
		return fmt.Errorf("both a redirect and an external authorizer")
	}
	if f.Invalid != "" {
		a.refuse(f.Invalid)
	}
	return nil
}

func (a *Action) applyRedirect(r *mesh.RouteRedirect, spec *mesh.RouteRule) error {
	switch r.Status {
	case 301, 302, 303, 307, 308:
	default:
		return fmt.Errorf("status %d", r.Status)
	}
	if r.Scheme != "" && r.Scheme != "http" && r.Scheme != "https" {
		return fmt.Errorf("scheme %q", r.Scheme)
	}
	if r.Hostname != "" {
		if err := checkHostname(r.Hostname); err != nil {
			return err
		}
	}
	a.Kind, a.Status, a.redirect = Redirect, r.Status, r
	return a.rewritePath(r.Path, spec)
}

func (a *Action) applyRewrite(r *mesh.RouteRewrite, spec *mesh.RouteRule) error {
	if r.Hostname != "" {
		if err := checkHostname(r.Hostname); err != nil {
			return err
		}
		a.Host = r.Hostname
	}
	if r.Path.Kind == mesh.PathKeep {
		return nil
	}
	return a.rewritePath(r.Path, spec)
}

func (a *Action) rewritePath(p mesh.PathRewrite, spec *mesh.RouteRule) error {
	switch p.Kind {
	case mesh.PathKeep:
		return nil
	case mesh.PathReplaceFull:
	case mesh.PathReplacePrefix:
		for i := range spec.Matches {
			if spec.Matches[i].Path.Kind != mesh.PathPrefix {
				return fmt.Errorf("match %d has no path prefix to replace", i)
			}
		}
		if p.Value == "" {
			p.Value = "/"
		}
	default:
		return fmt.Errorf("path: unknown kind of change %d", p.Kind)
	}
	if err := checkPath(p.Value); err != nil {
		return err
	}
	if p.Kind == mesh.PathReplacePrefix {
		p.Value = strings.TrimSuffix(p.Value, "/")
	}
	a.path = p
	return nil
}

// withMirrors returns old with more appended. It copies old, because other
// actions may share it.
func withMirrors(old []Mirror, more []mesh.RouteMirror) ([]Mirror, error) {
	if len(more) == 0 {
		return old, nil
	}
	all := append([]Mirror(nil), old...)
	for _, m := range more {
		if err := checkShare(m.Share); err != nil {
			return nil, err
		}
		if m.Service.Port == 0 {
			return nil, fmt.Errorf("no port")
		}
		all = append(all, Mirror{Backend: m.Service, share: m.Share})
	}
	return all, nil
}

// maxDelay bounds the delay of a fault, because delayed requests hold memory.
const maxDelay = 10 * time.Minute

func checkFault(f *mesh.RouteFault) error {
	switch {
	case f.Delay < 0 || f.Delay > maxDelay:
		return fmt.Errorf("a delay of %v: at most %v", f.Delay, maxDelay)
	case f.AbortStatus != 0 && (f.AbortStatus < 200 || f.AbortStatus > 599):
		return fmt.Errorf("status %d: want 200 to 599", f.AbortStatus)
	case f.AbortGRPC < 0 || f.AbortGRPC > 16:
		return fmt.Errorf("gRPC status %d: want 1 to 16", f.AbortGRPC)
	}
	if err := checkShare(f.DelayShare); err != nil {
		return err
	}
	return checkShare(f.AbortShare)
}

func checkShare(s mesh.Fraction) error {
	if s.Numerator > s.Denominator {
		return fmt.Errorf("a share of %d in %d", s.Numerator, s.Denominator)
	}
	return nil
}
