package request

import (
	"errors"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/authorizer"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/extauth"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Describer describes a request for its policies, and for an authorizer.
type Describer interface {
	destination.Asker
	// Described returns the request as the authorizer is told about it, without the ends of
	// the connection. The strings are not kept.
	Described() extauth.Request
}

// Check is a question to an external authorizer about one request, and its answer. A driver
// makes it, calls Run where it may wait, and then uses the rest.
type Check struct {
	session  *Session
	provider string // that a policy names; "": a route asks
	spec     *mesh.ExternalAuth
	draft    extauth.Question
	question authorizer.Question
	answer   extauth.Answer
	failed   error // why there is no answer; nil: there is one
	took     time.Duration
}

// RouteCheck returns the question that the routes ask about the request, or nil.
func (s *Session) RouteCheck(p *Plan, d Describer) *Check {
	if p.Action == nil || p.Action.External == nil {
		return nil
	}
	return s.check("", p.Action.External, s.Target.Local(), d)
}

// PolicyCheck returns the question that the policies of a server on this node ask about the
// request, or nil.
func (s *Session) PolicyCheck(d Describer) *Check {
	asks := s.Target.Asks(&s.Source, d)
	if asks == nil {
		return nil
	}
	return s.check(asks.Provider, asks.External, asks.Local, d)
}

func (s *Session) check(provider string, spec *mesh.ExternalAuth, local *mesh.Workload, d Describer) *Check {
	c := &Check{session: s, provider: provider, spec: spec}
	var to *destination.Authorizer
	if to, c.failed = s.Authorizers.Directory.Authorizer(local, spec); c.failed != nil {
		return c
	}
	c.question = authorizer.Question{To: to, As: spec, Usage: s.Quota, Account: s.Task.Account()}
	r := d.Described()
	r.Source.Addr, r.Destination.Addr = s.Source.Addr, s.Original
	if !s.Source.Identity.IsZero() {
		r.Source.Principal = s.Source.Identity.String()
	}
	if s.Direction == mesh.Inbound {
		r.Destination.Principal = local.Identity.String()
	}
	switch {
	case spec.GRPC:
		c.question.Present = presence(&r)
	case r.Method == "HEAD":
		c.question.Kind = http1.KindHEAD
	}
	c.draft, c.failed = extauth.Ask(spec, &r)
	return c
}

// Wants returns how much of the body the authorizer is to see, in bytes, and whether it may
// be a part. 0: nothing.
func (c *Check) Wants() (most int, partial bool) {
	if c.failed != nil {
		return 0, false
	}
	return c.spec.MaxBody, c.spec.PartialBody
}

// Body sets the body, or its first bytes. size is that of the whole body; -1: it is not known.
// The bytes are not kept.
func (c *Check) Body(body []byte, size int64) {
	if c.failed == nil {
		c.question.Message, c.failed = c.draft.Message(body, size)
	}
}

// TooLarge returns the response for a request whose body the authorizer may not see in whole.
func (c *Check) TooLarge() reply.Reply {
	out := reply.Of(mesh.ReasonExternalUnavailable)
	out.Status, out.GRPC, out.Detail = 413, mesh.ReasonOverload.GRPCCode(), "the body is too large for it"
	return out
}

// presence returns what says whether a request has a field. It keeps no string of r.
func presence(r *extauth.Request) func(name string) bool {
	names := map[string]bool{}
	for name := range r.Fields {
		names[lowered(name)] = true
	}
	return func(name string) bool { return names[name] }
}

// Run asks, and waits for the answer. Body was called before. until is when the request itself ends; zero: it has no
// limit.
func (c *Check) Run(until time.Time) {
	began := time.Now()
	if c.failed == nil {
		c.question.Until = until
		c.answer, c.failed = c.session.Authorizers.Ask(&c.question)
	}
	c.took = time.Since(began)
	c.question.Message = nil
	c.session.Authorizers.Counts.add(c.result(), c.took)
	if c.failed != nil {
		c.session.Log.Debug("an external authorizer could not be asked", "service", c.spec.Service.Namespace+"/"+c.spec.Service.Name, "cause", c.failed)
	}
}

// allowed reports whether the request goes on. A question too many lets nothing through:
// otherwise a client could make it so.
func (c *Check) allowed() bool {
	if c.failed != nil {
		return c.spec.FailOpen && !errors.Is(c.failed, authorizer.ErrBusy)
	}
	return c.answer.Allowed
}

// Reply returns the response for a request that is not allowed. Without a status the request
// goes on.
func (c *Check) Reply() reply.Reply {
	switch {
	case c.allowed():
		return reply.Reply{}
	case errors.Is(c.failed, authorizer.ErrBusy):
		return reply.Of(mesh.ReasonOverload)
	case c.failed != nil:
		out := reply.Of(mesh.ReasonExternalUnavailable)
		if status := c.spec.StatusOnError; status >= 400 && status <= 599 {
			out.Status, out.GRPC = status, reply.GRPCOfHTTP(status)
		}
		return out
	}
	out := reply.Of(mesh.ReasonExternalDenied)
	out.Status, out.GRPC = c.answer.Status, reply.GRPCOfHTTP(c.answer.Status)
	out.Own = &reply.Own{Fields: c.answer.Fields, Body: c.answer.Body}
	return out
}

// Edits returns the changes of a request that is allowed: names in lower case to remove, and
// fields to add then.
func (c *Check) Edits() (remove []string, add []mesh.HeaderField) {
	return c.answer.Remove, c.answer.Add
}

// Response returns the fields to add to the response.
func (c *Check) Response() []mesh.HeaderField {
	if c == nil {
		return nil
	}
	return c.answer.Response
}

// Tell tells the policies that judge a request what the authorizer has said.
func (c *Check) Tell(r *authz.Request) {
	if c == nil || c.provider == "" {
		return
	}
	r.Provider, r.External = c.provider, authz.Refused
	if c.allowed() {
		r.External = authz.Granted
	}
}

// Checked records what the check of the request has taken, and how the policies have decided
// if it refuses. asked has told them.
func (x *Exchange) Checked(c *Check, asked destination.Asker) {
	x.event.Asked = c.took
	if c.provider != "" && !c.allowed() {
		x.Judged(c.session.Target.Refused(&c.session.Source, asked))
	}
}
