package expression

import (
	"errors"
	"strings"
	"sync"

	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"github.com/underlane/underlane/pkg/policy/authz"
)

// Why an evaluation fails. The texts are shown beside the rule.
var (
	ErrAbsent    = errors.New("a header field or claim is read that is absent")
	ErrAmbiguous = errors.New("servers may read the request in ways that give different results")
	ErrCost      = errors.New("the evaluation costs too much")
	ErrHost      = errors.New("the request's host is not clear")
	ErrRepeated  = errors.New("header fields are repeated too often")
	ErrAlike     = errors.New("there is a header field of another name that some servers take for the same, with _ for -")
	ErrType      = errors.New("a value has a type that the expression does not expect")
	ErrOther     = errors.New("the expression cannot be evaluated")
)

// evaluation is what one evaluation needs. It is used again.
type evaluation struct {
	connection *authz.Connection
	request    *authz.Request
	path       string
	method     string
	headers    headers
	err        error // of a fact
	cost       cost.Tracker
}

var (
	evaluations = sync.Pool{New: func() any { return new(evaluation) }}
	budget      = sync.OnceValue(func() *cost.Tracker {
		t, err := cost.NewTracker(nil, cost.TrackerLimit(MaxCost))
		if err != nil {
			panic(err) // of the library's own options
		}
		return t
	})
)

// Matches implements authz.Predicate. The error is one of this package's.
func (p *Program) Matches(c *authz.Connection, r *authz.Request) (bool, error) {
	e := evaluations.Get().(*evaluation)
	defer e.release()
	e.connection, e.request = c, r
	e.headers = headers{fields: r.Fields, of: e}
	e.cost = *budget() // of all readings together
	paths, n := r.Paths()
	methods := 1
	upper := strings.ToUpper(r.Method) // some applications read it so
	if upper != r.Method {
		methods = 2
	}
	var result bool
	for i, first := 0, true; i < n*methods; i++ {
		e.path, e.method = paths[i/methods], r.Method
		if i%methods > 0 {
			e.method = upper
		}
		for reading := 0; reading < max(1, e.headers.readings); reading, first = reading+1, false {
			e.headers.reading = reading
			got, err := e.run(p.plan)
			if err != nil {
				return false, err
			}
			if !first && got != result {
				return false, ErrAmbiguous
			}
			result = got
		}
	}
	return result, nil
}

func (e *evaluation) release() {
	*e = evaluation{} // what it points to belongs to the request
	evaluations.Put(e)
}

// run evaluates one reading of the request.
func (e *evaluation) run(plan interpreter.InterpretableV2) (result bool, err error) {
	frame, err := interpreter.NewExecutionFrame(e)
	if err != nil {
		return false, ErrOther
	}
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(cost.LimitExceededError); !ok {
				err = ErrOther // the library's own fault: the rule fails closed
			} else {
				err = ErrCost
			}
			return // a frame that was left in the middle is not used again
		}
		frame.Close()
	}()
	frame.SetCostTracker(&e.cost)
	out := plan.Exec(frame)
	if e.err != nil {
		return false, e.err
	}
	if b, ok := out.(types.Bool); ok {
		return bool(b), nil
	}
	return false, failure(out)
}

// failure returns why a result is no boolean.
func failure(out ref.Val) error {
	err, ok := out.(*types.Err)
	switch {
	case !ok:
		return ErrType
	case strings.HasPrefix(err.Error(), "no such key"), strings.HasPrefix(err.Error(), "no such attribute"):
		return ErrAbsent
	case strings.HasPrefix(err.Error(), "no such overload"):
		return ErrType
	}
	return ErrOther
}

// Parent implements interpreter.Activation.
func (e *evaluation) Parent() interpreter.Activation { return nil }

// ResolveName implements interpreter.Activation.
func (e *evaluation) ResolveName(name string) (any, bool) {
	r, c := e.request, e.connection
	switch name {
	case requestMethod:
		return types.String(e.method), true
	case requestPath:
		return types.String(e.path), true
	case requestQuery:
		_, query, _ := strings.Cut(r.Path, "?")
		return types.String(query), true
	case requestHost:
		host, clear := r.Host()
		if !clear {
			e.err = ErrHost
		}
		return types.String(strings.ToLower(host)), true
	case requestHeaders:
		return &e.headers, true
	case sourceIdentity:
		return types.String(c.Peer.URI()), true
	case sourceTrustDomain:
		return types.String(c.Peer.TrustDomain()), true
	case sourceNamespace:
		return types.String(c.Peer.Identity().Namespace), true
	case sourceServiceAccount:
		return types.String(c.Peer.Identity().ServiceAccount), true
	case sourceAddress:
		return types.String(c.Client.Unmap().WithZone("").String()), true
	case destinationPort:
		return types.Int(c.Port), true
	case authPrincipal:
		return types.String(r.Principal), true
	case authClaims:
		return claims(r.Claims), true
	}
	return nil, false
}
