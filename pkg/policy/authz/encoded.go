package authz

import (
	"encoding/json"
	"errors"
)

// Encoded is a Predicate that was read from JSON: the bytes that it is made of. Who has the
// language makes the expression of them (Spec.Decode); until then it fails.
type Encoded []byte

var errEncoded = errors.New("the expression was read, and not compiled")

// Matches implements Predicate.
func (Encoded) Matches(*Connection, *Request) (bool, error) { return false, errEncoded }

// Checked returns the bytes.
func (e Encoded) Checked() []byte { return e }

// jsonCondition is a Condition in JSON.
type jsonCondition struct {
	plain
	Predicate Encoded `json:",omitempty"`
}

type plain Condition // without its methods

// MarshalJSON implements json.Marshaler. It keeps a Predicate that has its bytes.
func (c Condition) MarshalJSON() ([]byte, error) {
	out := jsonCondition{plain: plain(c)}
	if p, ok := c.Predicate.(interface{ Checked() []byte }); ok {
		out.Predicate = p.Checked()
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler. A Predicate is Encoded.
func (c *Condition) UnmarshalJSON(text []byte) error {
	var in jsonCondition
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	*c = Condition(in.plain)
	if in.Predicate != nil {
		c.Predicate = in.Predicate
	}
	return nil
}

// Decode replaces each Encoded predicate by what decode makes of it. One of which it makes
// nothing stays, and fails closed.
func (s *Spec) Decode(decode func([]byte) (Predicate, error)) {
	in := func(r *Rule) {
		for i := range r.When {
			if e, ok := r.When[i].Predicate.(Encoded); ok {
				if p, err := decode(e); err == nil {
					r.When[i].Predicate = p
				}
			}
		}
	}
	for g := range s.Groups {
		for p := range s.Groups[g].Policies {
			for r := range s.Groups[g].Policies[p].Rules {
				in(&s.Groups[g].Policies[p].Rules[r])
			}
		}
	}
	for i := range s.Limits {
		in(&s.Limits[i].Where)
	}
}
