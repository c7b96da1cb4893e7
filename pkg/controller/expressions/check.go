// Package expressions parses and checks the CEL expressions of policies for agents, which
// evaluate them (pkg/policy/expression). It is pure.
package expressions

import (
	"errors"
	"fmt"
	"sync"

	"cel.dev/cel-go/cel"
	"google.golang.org/protobuf/proto"

	"github.com/underlane/underlane/pkg/policy/expression"
)

// Check parses and checks a condition. The error says what is wrong and where: it is for the
// status of the object.
func Check(text string) (*expression.Program, error) {
	if len(text) > expression.MaxText {
		return nil, fmt.Errorf("has %d bytes, more than %d", len(text), expression.MaxText)
	}
	tree, issues := environment().Compile(text)
	if err := issues.Err(); err != nil {
		return nil, first(issues)
	}
	if !tree.OutputType().IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("is of the type %s, want bool", tree.OutputType())
	}
	message, err := cel.AstToCheckedExpr(tree)
	if err != nil {
		return nil, err
	}
	message.SourceInfo = nil // positions, and what macros were written
	// The order of fields has to be the same each time: agents are sent what differs.
	checked, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return nil, err
	}
	return expression.New(checked)
}

// first returns the first problem, in one line.
func first(issues *cel.Issues) error {
	errs := issues.Errors()
	if len(errs) == 0 {
		return issues.Err()
	}
	e := errs[0]
	if e.Location.Line() < 1 { // of the whole
		return errors.New(e.Message)
	}
	return fmt.Errorf("line %d, column %d: %s", e.Location.Line(), max(e.Location.Column(), 0)+1, e.Message)
}

var environment = sync.OnceValue(func() *cel.Env {
	options := []cel.EnvOption{cel.ParserRecursionLimit(50), cel.ParserExpressionSizeLimit(expression.MaxText)}
	for name, t := range expression.Variables() {
		options = append(options, cel.Variable(name, t))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		panic(err) // of this package's own options
	}
	return env
})
