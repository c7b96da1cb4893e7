// Package expression evaluates conditions of policies that are written in CEL (the Common
// Expression Language, cel.dev). A Program is an authz.Predicate. It is pure.
//
// The controller parses and checks an expression (pkg/controller/expressions), and sends the
// agents what the check yields: a google.api.expr.v1alpha1.CheckedExpr. So an agent has neither
// the parser nor the type checker. New refuses what the bounds of this package forbid, at both
// ends.
//
// # Doubt
//
// An evaluation that fails is an error, and its rule fails closed. It fails if a header
// field or claim is read that the request does not have, if a value has another type than
// the expression needs, or if it costs more than MaxCost.
//
// Facts that servers may read in more than one way (authz.Request.Paths, a header field that
// is repeated) are evaluated in each way. If the results differ, the evaluation fails. So does
// one that reads a host that is not clear.
package expression
