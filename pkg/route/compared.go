package route

import "slices"

// compared are the names of what the rules of a table compare, beside hosts, paths and methods.
type compared struct {
	fields []string // of header fields, in lower case
	params []string // of query parameters
}

func (c *compared) add(of *candidate) {
	for i := range of.headers {
		if name := of.headers[i].name; !slices.Contains(c.fields, name) {
			c.fields = append(c.fields, name)
		}
	}
	for i := range of.query {
		if name := of.query[i].name; !slices.Contains(c.params, name) {
			c.params = append(c.params, name)
		}
	}
}

// Compared returns the names of the header fields, in lower case, and of the query parameters
// that rules compare. The field "host" stands for the authority. They must not be changed.
func (t *Table) Compared() (fields, params []string) {
	if t == nil {
		return nil, nil
	}
	return t.compared.fields, t.compared.params
}
