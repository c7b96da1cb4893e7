// Package route finds the rule for a request, as Gateway API v1.6 wants it, and
// says what the rule makes of it. It is pure: no clock, and randomness is an
// argument.
//
// Select takes the routes that hold for a client; Compile checks them and makes
// a Table, which is immutable. The way of a request:
//
//	hit, verdict := table.Match(&request)      // Unrouted, NoRule or Matched
//	action := hit.Rule.Choose(rand.Uint64())   // a backend by its weight, a redirect, or a refusal
//	switch action.Kind {
//	case route.Forward:                        // to action.Backend
//		target = action.AppendTarget(target, &request, hit)
//		host, edits = action.Host, &action.Request
//	case route.Redirect:
//		location = action.AppendLocation(location, &request, hit, port)
//	case route.Refuse:                         // 500
//	}
//
// None of this allocates, but for a regular expression on a query parameter
// that is percent-encoded.
//
// What the specification leaves open: regular expressions are RE2 and match the
// whole path (without query) or value. A path that matches one goes before
// those that match a prefix; of several the longer expression wins. Paths are
// compared as they came, query parameters decoded. Of a repeated header field
// or parameter the first counts. "host" matches the request's authority.
package route
