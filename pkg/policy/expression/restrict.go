package expression

import (
	"errors"
	"fmt"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
)

// restrict refuses what is CEL and not allowed here. Header fields are read by name only,
// because a request's are searched rather than copied.
func restrict(e ast.Expr) error {
	r := restrictor{left: maxNodes}
	r.walk(e, 0)
	return r.err
}

type restrictor struct {
	left int
	err  error
}

func (r *restrictor) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *restrictor) walk(e ast.Expr, depth int) {
	if r.left--; r.left < 0 || depth > maxDepth {
		r.fail("the expression is too long: it has more than %d parts, or %d within each other", maxNodes, maxDepth)
	}
	if r.err != nil {
		return
	}
	depth++
	all := func(list ...ast.Expr) {
		for _, e := range list {
			r.walk(e, depth)
		}
	}
	switch e.Kind() {
	case ast.LiteralKind:
	case ast.IdentKind, ast.SelectKind:
		switch name := qualified(e); {
		case name == requestHeaders:
			r.fail(`%s can be read by name only, as %[1]s["x-name"] or "x-name" in %[1]s`, requestHeaders)
		case e.Kind() == ast.SelectKind && !isHeaders(e.AsSelect().Operand()):
			all(e.AsSelect().Operand())
		}
	case ast.CallKind:
		r.call(e.AsCall(), all)
	case ast.ListKind:
		all(e.AsList().Elements()...)
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			all(entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		all(c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result())
	default:
		r.fail("messages cannot be made")
	}
}

func (r *restrictor) call(c ast.CallExpr, all func(...ast.Expr)) {
	args := c.Args()
	switch name := c.FunctionName(); {
	case name == operators.Index && len(args) == 2 && isHeaders(args[0]):
		args = args[1:]
	case name == operators.In && len(args) == 2 && isHeaders(args[1]):
		args = args[:1]
	case name == overloads.Matches:
		if n := len(args); n == 0 || args[n-1].Kind() != ast.LiteralKind || args[n-1].AsLiteral().Type() != types.StringType {
			r.err = errors.Join(r.err, errors.New("the regular expression of matches() must be a text, not computed"))
		}
	}
	if c.IsMemberFunction() {
		all(c.Target())
	}
	all(args...)
}

func isHeaders(e ast.Expr) bool { return qualified(e) == requestHeaders }

// qualified returns the name of a variable, however the checker has left it: as one identifier,
// or as the selection of a field.
func qualified(e ast.Expr) string {
	switch e.Kind() {
	case ast.IdentKind:
		return e.AsIdent()
	case ast.SelectKind:
		if s := e.AsSelect(); !s.IsTestOnly() {
			if before := qualified(s.Operand()); before != "" {
				return before + "." + s.FieldName()
			}
		}
	}
	return ""
}
