package controller

import (
	"context"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/controller/jwks"
	"github.com/underlane/underlane/pkg/controller/translate"
)

// fillKeys gives the rules for tokens the keys that are fetched, and returns what is wrong
// with these.
func (c *Controller) fillKeys(r *translate.Result) (out []translate.Problem) {
	for _, p := range c.keys.Fill(r.Authz) {
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
	result := c.translation.Translate(c.source.Objects())
	c.keys.Fill(result.Authz)
	ctx, cancel := context.WithTimeout(ctx, keysAtStart)
	defer cancel()
	c.keys.Await(ctx)
}
