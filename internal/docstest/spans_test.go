package docstest

import (
	"regexp"
	"strings"
)

// span is a code span of a page: `text`.
type span struct {
	text   string
	before string // what stands between the span before it, or the block's start, and it
}

var (
	indented  = regexp.MustCompile(`(?m)^(?: {4}|\t).*$`)
	listItem  = regexp.MustCompile(`^\s*(?:[-*+]|\d+\.)\s`)
	heading   = regexp.MustCompile(`^#+\s`)
	codeSpan  = regexp.MustCompile("(`+)(.+?)`+")
	backquote = regexp.MustCompile("^\\s*```")
)

// blocks are the paragraphs, list items, headings and table rows of a page, each
// on one line and without the blocks of code between them.
func blocks(text string) []string {
	var out []string
	var current []string
	end := func() {
		if len(current) > 0 {
			out = append(out, strings.Join(current, " "))
		}
		current = nil
	}
	inFence, inList := false, false
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		switch {
		case backquote.MatchString(line):
			end()
			inFence = !inFence
		case inFence:
		case trimmed == "":
			end()
		case heading.MatchString(line), strings.HasPrefix(trimmed, "|"):
			end()
			out = append(out, trimmed)
			inList = false
		case listItem.MatchString(line):
			end()
			current = append(current, trimmed)
			inList = true
		case indented.MatchString(line) && len(current) == 0 && !inList:
			// a block of code
		default:
			if line[0] != ' ' && len(current) == 0 {
				inList = false
			}
			current = append(current, trimmed)
		}
	}
	end()
	return out
}

// spans are the code spans of a block, in order.
func spans(block string) []span {
	var out []span
	last := 0
	for _, m := range codeSpan.FindAllStringSubmatchIndex(block, -1) {
		out = append(out, span{text: strings.TrimSpace(block[m[4]:m[5]]), before: block[last:m[0]]})
		last = m[1]
	}
	return out
}
