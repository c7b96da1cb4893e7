package authz

// condition is a compiled Condition.
type condition struct {
	kind      ConditionKind
	name      string
	claim     []string
	values    *values // nil: not looked at
	notValues *values
	source    *source
	operation *operation
	predicate Predicate
}

func (c *condition) needsRequest() bool {
	switch c.kind {
	case ConditionSource:
		return c.source.needsRequest()
	case ConditionOperation:
		return c.operation.needsRequest()
	}
	return true
}

func (c *condition) fitsConnection(f *facts) bool {
	switch c.kind {
	case ConditionSource:
		return c.source.fitsConnection(f)
	case ConditionOperation:
		return c.operation.fitsConnection(f)
	}
	return true
}

func (c *condition) fitsRequest(f *facts, wide bool) bool {
	switch c.kind {
	case ConditionSource:
		return c.source.fitsRequest(f)
	case ConditionOperation:
		return c.operation.fitsRequest(f, wide)
	case ConditionHeader:
		return judgeHeader(f.r.Fields, c.name, c.values, true, wide) && judgeHeader(f.r.Fields, c.name, c.notValues, false, wide)
	case ConditionClaim:
		return judgeClaim(f.r.Claims, c.claim, c.values, true, wide) && judgeClaim(f.r.Claims, c.claim, c.notValues, false, wide)
	case ConditionPredicate:
		ok, err := c.predicate.Matches(f.Connection, f.r)
		if err != nil {
			f.err = err
			return wide
		}
		return ok
	}
	return wide
}

// judgeHeader does for the values of a header field what readings.judge does for
// the readings of a path. A field that is absent has no value: it is not in v. With fields of
// names that are alike there is a second reading, which has their values, too.
func judgeHeader(fields Fields, name string, v *values, want, wide bool) bool {
	if v == nil {
		return true
	}
	if fields == nil {
		return !want
	}
	value, next, ok := fields.Next(name, 0)
	out := !want
	if ok {
		out = !wide
	}
	for ; ok; value, next, ok = fields.Next(name, next) {
		if v.judge(value, want, wide) == wide {
			return wide
		}
	}
	if out == wide {
		return out
	}
	for value, next, ok = fields.Alike(name, 0); ok; value, next, ok = fields.Alike(name, next) {
		if v.judge(value, want, wide) == wide {
			return wide
		}
	}
	return out
}

// judgeClaim reports whether an element of the claim is in v, or with want false none is.
func judgeClaim(claims Claims, path []string, v *values, want, wide bool) bool {
	if v == nil {
		return true
	}
	if claims == nil {
		return !want
	}
	out := !want
	for i := 0; ; i++ {
		value, ok := claims.Value(path, i)
		if !ok {
			return out
		}
		in, notIn := v.judge(value, true, wide), v.judge(value, false, wide)
		switch {
		case in != notIn && in:
			return want
		case in == notIn: // in doubt
			out = wide
		}
	}
}
