// Package route finds the rule for a request, as Gateway API v1.6 specifies it,
// and says what the rule does with the request. It is pure: no clock, and
// randomness is an argument.
//
// Select returns the routes that apply to a client. Compile checks them and
// makes a Table, which is immutable. A request then takes these steps:
//
//	hit, verdict := table.Match(&request)      // Unrouted, NoRule or Matched
//	action := hit.Rule.Choose(rand.Uint64())   // a backend by weight, a redirect, or a refusal
//	switch action.Kind {
//	case route.Forward:                        // to action.Backend
//		target = action.AppendTarget(target, &request, hit)
//		host, edits = action.Host, &action.Request
//	case route.Redirect:
//		location = action.AppendLocation(location, &request, hit, port)
//	case route.Refuse:                         // 500
//	}
//
// None of this allocates, except matching a regular expression with a query
// parameter that is percent-encoded.
//
// Where the specification leaves a choice: regular expressions are RE2 and match
// the whole path (without the query) or the whole value. A match by regular
// expression takes precedence over a match by prefix; of several expressions the
// longest wins. Paths are compared as received, query parameters after decoding.
// If a header field or a parameter is repeated, the first one is compared. The
// header name "host" matches the request's authority.
package route
