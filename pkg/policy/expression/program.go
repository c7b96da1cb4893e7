package expression

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/containers"
	"cel.dev/cel-go/common/stdlib"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"
	exprpb "google.golang.org/genproto/googleapis/api/expr/v1alpha1"
	"google.golang.org/protobuf/proto"
)

// Bounds of an expression.
const (
	MaxText    = 2048     // bytes of what is written
	maxChecked = 64 << 10 // bytes of the checked form
	maxNodes   = 1000     // of it; macros are expanded
	maxDepth   = 100
	// MaxCost bounds one evaluation, in units of CEL's cost model: about one per step, and
	// one per ten bytes of the texts that are compared.
	MaxCost = 5000
	// maxRegex bounds the instructions that a regular expression is compiled to.
	maxRegex = 1000
)

// Program is an expression that can be evaluated. It is immutable and safe for
// concurrent use. It implements authz.Predicate.
type Program struct {
	checked []byte
	plan    interpreter.InterpretableV2
}

// New makes a Program of a CheckedExpr. The error says what of it is not allowed.
func New(checked []byte) (p *Program, err error) {
	defer func() {
		if r := recover(); r != nil { // the planner's, of what no checker yields
			p, err = nil, fmt.Errorf("the expression cannot be planned: %v", r)
		}
	}()
	if len(checked) > maxChecked {
		return nil, fmt.Errorf("the expression has %d bytes when it is checked, more than %d", len(checked), maxChecked)
	}
	var message exprpb.CheckedExpr
	if err := proto.Unmarshal(checked, &message); err != nil {
		return nil, fmt.Errorf("no checked expression: %w", err)
	}
	if message.GetExpr() == nil {
		return nil, errors.New("no checked expression: it is empty")
	}
	tree, err := ast.ToAST(&message)
	if err != nil {
		return nil, fmt.Errorf("no checked expression: %w", err)
	}
	if err := restrict(tree.Expr()); err != nil {
		return nil, err
	}
	plan, err := language().NewInterpretable(tree, interpreter.Optimize(),
		interpreter.CompileRegexConstants(interpreter.MatchesRegexOptimization), interpreter.RegexProgramSizeLimit(maxRegex))
	if err != nil {
		return nil, fmt.Errorf("the expression cannot be planned: %w", err)
	}
	return &Program{checked, plan}, nil
}

// Checked returns what New was given. It must not be changed.
func (p *Program) Checked() []byte { return p.checked }

// Equal reports whether both are the same expression.
func (p *Program) Equal(q *Program) bool {
	return p == q || p != nil && q != nil && bytes.Equal(p.checked, q.checked)
}

// language has the functions of CEL. It is made at the first use: agents without expressions
// do not pay for it.
var language = sync.OnceValue(func() interpreter.Interpreter {
	dispatcher := interpreter.NewDispatcher()
	for _, f := range stdlib.Functions() {
		overloads, err := f.Bindings()
		if err == nil {
			err = dispatcher.Add(overloads...)
		}
		if err != nil {
			panic(err) // of the library's own functions
		}
	}
	registry := types.NewEmptyRegistry()
	container := containers.DefaultContainer
	return interpreter.NewInterpreter(dispatcher, container, registry, adapter{}, interpreter.NewAttributeFactory(container, adapter{}, registry))
})
