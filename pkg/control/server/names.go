package server

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits in bytes for texts from a peer that are shown to users: in logs, errors
// and status.
const (
	maxShownName = 64
	maxShownText = 512
)

// shown makes a text from a peer safe to show: one line of printable characters, at
// most limit bytes long.
func shown(text string, limit int) string {
	cut := len(text) > limit
	if cut {
		text = text[:limit]
		for !utf8.ValidString(text) && len(text) > limit-utf8.UTFMax {
			text = text[:len(text)-1]
		}
	}
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	if cut {
		text += "…"
	}
	return text
}

// maxNodeName is Kubernetes' limit.
const maxNodeName = 253

// isNodeName reports whether Kubernetes accepts name as the name of a node: a
// DNS-1123 subdomain.
func isNodeName(name string) bool {
	if len(name) > maxNodeName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || 'z' < c) && (c < '0' || '9' < c) && c != '-' {
				return false
			}
		}
	}
	return true
}
