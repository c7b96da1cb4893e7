package script

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// step is a verb with its arguments, and for repeat and loop the steps in the
// braces.
type step struct {
	verb string
	args []arg
	body []step
}

// arg is a word or a string.
type arg struct {
	text   string
	quoted bool
}

func (s *step) word(i int) string {
	if i < len(s.args) {
		return s.args[i].text
	}
	return ""
}

func (s *step) number(i int) (int, error) {
	n, err := strconv.Atoi(s.word(i))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s: %q is no number", s.verb, s.word(i))
	}
	return n, nil
}

func (s *step) duration(i int, fallback time.Duration) (time.Duration, error) {
	if i >= len(s.args) && fallback != 0 {
		return fallback, nil
	}
	d, err := time.ParseDuration(s.word(i))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s.verb, err)
	}
	return d, nil
}

// text joins the strings among the arguments.
func (s *step) text() string {
	var b strings.Builder
	for _, a := range s.args {
		if a.quoted {
			b.WriteString(a.text)
		}
	}
	return b.String()
}

// parse reads a script of one connection.
func parse(text string) ([]step, error) {
	p := parser{rest: text}
	steps, err := p.steps()
	if err == nil && p.rest != "" {
		err = errors.New("a } too many")
	}
	if err != nil {
		return nil, fmt.Errorf("script: %w, before %.40q", err, p.rest)
	}
	return steps, nil
}

// parseServer reads the scripts of a server's connections.
func parseServer(text string) ([][]step, error) {
	var all [][]step
	for part := range strings.SplitSeq("\n"+text, "\n--") {
		steps, err := parse(part)
		if err != nil {
			return nil, err
		}
		all = append(all, steps)
	}
	return all, nil
}

// Check says what is wrong with the script of a client or, if server is set, of
// a server.
func Check(text string, server bool) error {
	scripts, err := parseServer(text)
	if err != nil {
		return err
	}
	if !server && len(scripts) > 1 {
		return errors.New("script: a client has one script")
	}
	for _, steps := range scripts {
		if err := check(steps); err != nil {
			return fmt.Errorf("script: %w", err)
		}
	}
	return nil
}

func check(steps []step) error {
	for _, s := range steps {
		if verbs[s.verb] == nil {
			return fmt.Errorf("there is no step %q", s.verb)
		}
		if len(s.body) > 0 != slices.Contains([]string{"repeat", "loop"}, s.verb) {
			return fmt.Errorf("%s: braces belong to repeat and loop", s.verb)
		}
		if err := check(s.body); err != nil {
			return err
		}
	}
	return nil
}

type parser struct{ rest string }

func (p *parser) steps() ([]step, error) {
	var out []step
	for {
		p.rest = strings.TrimLeft(p.rest, " \t\n;")
		if p.rest == "" || p.rest[0] == '}' {
			return out, nil
		}
		s, err := p.step()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
}

func (p *parser) step() (s step, err error) {
	for {
		p.rest = strings.TrimLeft(p.rest, " \t")
		switch {
		case p.rest == "" || strings.ContainsRune("\n;}", rune(p.rest[0])):
			return s, nil
		case p.rest[0] == '{':
			p.rest = p.rest[1:]
			if s.body, err = p.steps(); err != nil {
				return s, err
			}
			after, ok := strings.CutPrefix(p.rest, "}")
			if !ok {
				return s, fmt.Errorf("%s { without }", s.verb)
			}
			p.rest = after
			return s, nil
		}
		a, err := p.arg()
		switch {
		case err != nil:
			return s, err
		case s.verb != "":
			s.args = append(s.args, a)
		case a.quoted:
			return s, fmt.Errorf("a step begins with %.20q", a.text)
		default:
			s.verb = a.text
		}
	}
}

func (p *parser) arg() (a arg, err error) {
	if p.rest[0] == '"' {
		quoted, err := strconv.QuotedPrefix(p.rest)
		if err != nil {
			return a, err
		}
		p.rest = p.rest[len(quoted):]
		if a.text, err = strconv.Unquote(quoted); err != nil {
			return a, err
		}
		if after, ok := strings.CutPrefix(p.rest, "*"); ok {
			p.rest = after
			n, err := strconv.Atoi(p.take())
			if err != nil || n < 0 {
				return a, errors.New("no number after *")
			}
			a.text = strings.Repeat(a.text, n)
		}
		return arg{a.text, true}, nil
	}
	word := p.take()
	switch word[0] {
	case '$':
		text, ok := constants[word[1:]]
		if !ok {
			return a, fmt.Errorf("there is no constant %s", word)
		}
		return arg{text, true}, nil
	case '#':
		n, err := strconv.Atoi(word[1:])
		if err != nil || n < 0 {
			return a, fmt.Errorf("%s: # wants a number", word)
		}
		return arg{pattern(n), true}, nil
	}
	return arg{word, false}, nil
}

// take takes a word off the rest.
func (p *parser) take() string {
	i := strings.IndexAny(p.rest, " \t\n;{}")
	if i < 0 {
		i = len(p.rest)
	}
	word := p.rest[:i]
	p.rest = p.rest[i:]
	return word
}

// pattern is n bytes in which no two places look alike for long.
func pattern(n int) string {
	b := make([]byte, 0, n+8)
	for i := 0; len(b) < n; i++ {
		b = strconv.AppendInt(b, int64(i), 36)
		b = append(b, ' ')
	}
	return string(b[:n])
}
