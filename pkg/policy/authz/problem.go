package authz

import "fmt"

// Problem is something in a policy that is not understood, in words for the status
// of the object. The policy fails closed.
type Problem struct {
	Policy string // "" for Options
	Rule   int    // from 1; 0: the policy as a whole
	Field  string
	Text   string
}

func (p Problem) String() string {
	switch {
	case p.Policy == "":
		return fmt.Sprintf("%s: %s", p.Field, p.Text)
	case p.Rule == 0:
		return fmt.Sprintf("%s: %s: %s", p.Policy, p.Field, p.Text)
	}
	return fmt.Sprintf("%s: rule %d: %s: %s", p.Policy, p.Rule, p.Field, p.Text)
}
