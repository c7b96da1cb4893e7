package route

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

// Bounds of what a regular expression may cost: the instructions that it is compiled to, times
// the bytes of the value, are the steps that an evaluation takes at most. An instruction is
// about a character of the expression.
const (
	maxInstructions = 1000
	maxSteps        = 1 << 16
	alwaysMatched   = 128 // bytes of a value that every expression is evaluated on
)

// LongestValue returns the length, in bytes, of the longest value that a regular expression is
// evaluated on. The error says that it may not be used at all.
func LongestValue(expression string) (int, error) {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return 0, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	switch {
	case err != nil:
		return 0, err
	case len(program.Inst) > maxInstructions:
		return 0, fmt.Errorf("it is compiled to %d instructions, more than %d", len(program.Inst), maxInstructions)
	}
	return max(alwaysMatched, maxSteps/len(program.Inst)), nil
}

// pattern is a regular expression that has to match a whole value.
type pattern struct {
	re   *regexp.Regexp
	most int // bytes of the longest value that it is evaluated on
}

// maxPattern bounds the length of a regular expression. It is the API's limit
// for header values.
const maxPattern = 4096

func compilePattern(p string) (*pattern, error) {
	if len(p) > maxPattern {
		return nil, fmt.Errorf("a regular expression of %d bytes: at most %d", len(p), maxPattern)
	}
	if _, err := regexp.Compile(p); err != nil { // compile p alone first: it must not close the group below
		return nil, err
	}
	return newPattern("^(?:" + p + ")$")
}

func newPattern(whole string) (*pattern, error) {
	re, err := regexp.Compile(whole)
	if err != nil {
		return nil, err
	}
	most, err := LongestValue(whole)
	if err != nil {
		return nil, fmt.Errorf("regular expression %q: %w", whole, err)
	}
	return &pattern{re, most}, nil
}

func (p *pattern) judge(value string) fit {
	switch {
	case len(value) > p.most:
		return unsure
	case p.re.MatchString(value):
		return yes
	}
	return no
}

// fit says whether something matches.
type fit uint8

const (
	no fit = iota
	yes
	unsure // a value is too long for a regular expression
)

// and returns whether both match.
func (f fit) and(other fit) fit {
	if f == no || other == no {
		return no
	}
	return max(f, other)
}

func fits(is bool) fit {
	if is {
		return yes
	}
	return no
}
