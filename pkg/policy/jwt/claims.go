package jwt

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4/json"
)

// Token is a token that is good. It implements authz.Claims. It is immutable.
type Token struct {
	Principal string // "issuer/subject"; "" without a subject
	claims    map[string]any
	spaced    []string // claims of which each word is an element
}

// readClaims reads a payload: an object without repeated names.
func readClaims(payload []byte) (map[string]any, error) {
	if err := checkDepth(payload); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.SetNumberType(json.UnmarshalJSONNumber)
	var claims map[string]any
	if err := d.Decode(&claims); err != nil {
		return nil, err
	}
	if claims == nil {
		return nil, errors.New("the claims are no object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something after the claims")
	}
	return claims, nil
}

// Value implements authz.Claims. A number or a boolean has one element: its text in JSON.
func (t *Token) Value(path []string, i int) (string, bool) {
	value, ok := find(t.claims, path)
	if !ok || i < 0 {
		return "", false
	}
	if list, ok := value.([]any); ok {
		for _, element := range list {
			if text, ok := scalar(element); ok {
				if i == 0 {
					return text, true
				}
				i--
			}
		}
		return "", false
	}
	text, ok := scalar(value)
	if ok && len(path) == 1 && slices.Contains(t.spaced, path[0]) {
		return word(text, i)
	}
	return text, ok && i == 0
}

// Given returns the Token that a good one with this payload would be. It is for questions
// about decisions: nothing is verified.
func Given(payload []byte) (*Token, error) {
	claims, err := readClaims(payload)
	if err != nil {
		return nil, err
	}
	t := &Token{claims: claims, spaced: []string{"scope", "permission"}}
	issuer, _ := claims["iss"].(string)
	if subject, _ := claims["sub"].(string); subject != "" {
		t.Principal = issuer + "/" + subject
	}
	return t, nil
}

// Object implements authz.Claims.
func (t *Token) Object() map[string]any { return t.claims }

// word returns the word i of a text.
func word(text string, i int) (string, bool) {
	for w := range strings.FieldsSeq(text) {
		if i == 0 {
			return w, true
		}
		i--
	}
	return "", false
}

// find returns the claim at path.
func find(claims map[string]any, path []string) (any, bool) {
	for i, name := range path {
		value, ok := claims[name]
		if !ok || i == len(path)-1 {
			return value, ok
		}
		if claims, ok = value.(map[string]any); !ok {
			return nil, false
		}
	}
	return nil, false
}

// number returns a number of JSON.
func number(v any) (float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return f, err == nil
}

// scalar returns a value that is not a list or an object as text.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	case json.Number:
		return string(v), true
	}
	return "", false
}

// headerValue returns a claim as the value of a header field: a list or an object as the
// base64url of its JSON. ok is false without the claim, and for one that cannot be in a
// field (RFC 9110 §5.5).
func headerValue(claims map[string]any, path []string) (text string, ok bool) {
	value, ok := find(claims, path)
	if !ok || value == nil {
		return "", false
	}
	if text, ok = scalar(value); ok {
		return text, !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) &&
			text == strings.TrimSpace(text) && len(text) <= maxHeaderValue
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return "", false
	}
	text = base64.RawURLEncoding.EncodeToString(encoded)
	return text, len(text) <= maxHeaderValue
}

// maxHeaderValue bounds what a claim adds to a head, in bytes.
const maxHeaderValue = 16 << 10
