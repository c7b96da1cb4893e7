package authz

// operation is a compiled Operation.
type operation struct {
	ports, notPorts     []PortRange
	hosts, notHosts     *values
	methods, notMethods *values
	paths, notPaths     *values
	grpc, notGRPC       *values
	routes              *values
}

func (o *operation) needsRequest() bool {
	return o.hosts != nil || o.notHosts != nil || o.methods != nil || o.notMethods != nil || o.paths != nil ||
		o.notPaths != nil || o.grpc != nil || o.notGRPC != nil || o.routes != nil
}

func (o *operation) fitsConnection(f *facts) bool {
	return (o.ports == nil || inRanges(o.ports, f.Port)) && !inRanges(o.notPorts, f.Port)
}

func (o *operation) fitsRequest(f *facts, wide bool) bool {
	return (o.routes == nil || o.routes.has(f.route)) &&
		o.methods.judge(f.r.Method, true, wide) &&
		o.notMethods.judge(f.r.Method, false, wide) &&
		f.path.judge(o.paths, true, wide) &&
		f.path.judge(o.notPaths, false, wide) &&
		f.path.judge(o.grpc, true, wide) &&
		f.path.judge(o.notGRPC, false, wide) &&
		f.judgeHost(o.hosts, true, wide) &&
		f.judgeHost(o.notHosts, false, wide)
}

func inRanges(ranges []PortRange, port uint16) bool {
	for _, r := range ranges {
		if r.First <= port && port <= r.Last {
			return true
		}
	}
	return false
}

// judge reports whether the readings are in v, or with want false are not. With wide
// one reading is enough; without it all of them have to be.
func (p *readings) judge(v *values, want, wide bool) bool {
	if v == nil {
		return true
	}
	for i, s := range p.of[:p.n] {
		if v.judge(s, want, wide) == wide && !(i > 0 && i == p.bare && want && !wide && v.names(p.of[0])) {
			return wide
		}
	}
	return !wide
}

// names reports whether one of the values is exactly this path: who has written its parameters
// down knows of them.
func (v *values) names(path string) bool {
	if _, ok := v.exact[path]; ok {
		return true
	}
	for i := range v.list {
		if m := &v.list[i]; m.kind == Exact && m.value == path {
			return true
		}
	}
	return false
}

// judgeHost reports whether the host is in v, or with want false is not. One that
// is not clear may be any.
func (f *facts) judgeHost(v *values, want, wide bool) bool {
	if v == nil {
		return true
	}
	if !f.clear {
		return wide
	}
	return v.judge(f.host, want, wide)
}
