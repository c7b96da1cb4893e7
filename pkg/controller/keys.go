package controller

import (
	"context"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/controller/jwks"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// problemsOf says whose rules for tokens lack keys.
func problemsOf(all []authz.Problem) (out []translate.Problem) {
	for _, p := range all {
		kind, name, _ := strings.Cut(p.Policy, " ")
		namespace, name, _ := strings.Cut(name, "/")
		out = append(out, translate.Problem{Kind: kind, Namespace: namespace, Name: name, Reason: p.Field + ": " + p.Text})
	}
	return out
}

// keysAtStart is how long the first state waits for the keys of tokens. Agents have the keys
// of the controller before this one until then.
const keysAtStart = jwks.Timeout + time.Second

// awaitKeys fetches keys before the first state is published.
func (c *Controller) awaitKeys(ctx context.Context) {
	c.advance(true)
	ctx, cancel := context.WithTimeout(ctx, keysAtStart)
	defer cancel()
	c.keys.Await(ctx)
}
