package authz

import (
	"fmt"
	"strings"
)

// LimitsOf returns, in words, the limits that are about a request that is let in: the policy
// and limit by name, the rate, and what is counted together.
func (w *Workload) LimitsOf(c *Connection, r *Request) (out []string) {
	if r == nil || c.Probe {
		return nil
	}
	limits := w.Limits()
	for i := range limits {
		if l := &limits[i]; l.Limits(c, r) {
			out = append(out, l.describe())
		}
	}
	if l := w.RateLimit(c.Port); l != nil {
		out = append(out, l.describe(c))
	}
	return out
}

func (l *Limit) describe() string {
	name := l.Name
	if name == "" {
		name = fmt.Sprint(l.Number)
	}
	out := fmt.Sprintf("%s, limit %s: ", ShortName(l.Policy), name)
	if l.Requests == 0 {
		return out + "it is not understood, and lets in no request"
	}
	out += fmt.Sprintf("%d requests in %v, %d at once, ", l.Requests, l.Per, l.Burst)
	if l.Nodes == 0 {
		out += "on each node"
	} else {
		out += "on all nodes together"
	}
	if len(l.By) == 0 {
		return out
	}
	var by []string
	for _, d := range l.By {
		by = append(by, d.describe())
	}
	return out + ", for each " + strings.Join(by, " and ")
}

func (d *Distinct) describe() string {
	switch d.Kind {
	case DistinctIdentity:
		return "identity"
	case DistinctNamespace:
		return "namespace of clients"
	case DistinctHeader:
		return "value of the header field " + d.Name
	case DistinctClaim:
		return "value of the claim " + strings.Join(d.Claim, ".")
	case DistinctPath:
		return "path"
	}
	return "part that is not understood, and is left out"
}

// describe says what the limit is for a client. As Linkerd's proxy does, a client has the
// first override that has it, or else what each identity has.
func (l *RateLimit) describe(c *Connection) string {
	var parts []string
	if l.Total > 0 {
		parts = append(parts, fmt.Sprintf("%d requests a second in total", l.Total))
	}
	own, whose := l.Identity, "for each identity"
	if id := c.Peer.Identity(); !id.IsZero() {
		for _, o := range l.Overrides {
			for _, client := range o.Clients {
				if client == id && whose != "for the clients of an override" {
					own, whose = o.RequestsPerSecond, "for the clients of an override"
				}
			}
		}
	} else {
		whose = "for all clients without an identity"
	}
	if own > 0 {
		parts = append(parts, fmt.Sprintf("%d a second %s", own, whose))
	}
	if len(parts) == 0 {
		parts = append(parts, "no limit for this client")
	}
	return fmt.Sprintf("%s: %s, in each pod", ShortName(l.Policy), strings.Join(parts, ", "))
}
