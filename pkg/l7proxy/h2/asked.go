package h2

import "github.com/underlane/underlane/pkg/policy/authz"

// asker describes the request of a stream for the policies, until its response begins.
type asker stream

// Asked implements destination.Asker.
func (st *asker) Asked() authz.Request {
	line := requestLine(st.fields)
	return authz.Request{
		Method: line.Method, Authority: line.Authority, Path: line.Path, Fields: (*headFields)(&st.fields),
	}
}

// Next implements authz.Fields.
func (f *headFields) Next(name string, from int) (value string, next int, ok bool) {
	for i := from; i < len(*f); i++ {
		if (*f)[i].Name == name {
			return (*f)[i].Value, i + 1, true
		}
	}
	return "", 0, false
}
