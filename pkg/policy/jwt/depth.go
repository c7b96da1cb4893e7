package jwt

import "errors"

// maxDepth bounds the nesting of JSON.
const maxDepth = 32

var errDeep = errors.New("JSON is nested too deeply")

// checkDepth returns an error if text is nested more deeply than maxDepth. It does not
// otherwise look whether text is JSON.
func checkDepth(text []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return errDeep
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}
