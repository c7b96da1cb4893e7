package route

import (
	"fmt"
	"strings"
)

// byteSet is a set of ASCII characters.
type byteSet [256]bool

func setOf(chars string) (s byteSet) {
	for i := range len(chars) {
		s[chars[i]] = true
	}
	return s
}

func (s *byteSet) all(text string) bool {
	for i := range len(text) {
		if !s[text[i]] {
			return false
		}
	}
	return true
}

const (
	digits  = "0123456789"
	lower   = "abcdefghijklmnopqrstuvwxyz"
	upper   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	letters = lower + upper
)

var (
	tokenChars = setOf("!#$%&'*+-.^_`|~" + digits + letters) // RFC 9110 §5.6.2
	hostChars  = setOf("-." + digits + lower)
	pathChars  = setOf("/-._~!$&'()*+,;=:@%" + digits + letters) // RFC 3986 §3.3
	grpcChars  = setOf("._" + digits + letters)
)

func isToken(s string) bool    { return s != "" && tokenChars.all(s) }
func isGRPCName(s string) bool { return grpcChars.all(s) }

// checkHostname accepts a DNS name in lower case and refuses an IP address
// (RFC 1123).
func checkHostname(name string) error {
	bad := name == "" || len(name) > maxHost || !hostChars.all(name)
	numeric := false
	for label := range strings.SplitSeq(name, ".") {
		bad = bad || label == "" || label[0] == '-' || label[len(label)-1] == '-'
		numeric = strings.Trim(label, digits) == ""
	}
	if bad || numeric {
		return fmt.Errorf("hostname %q: not a DNS name", name)
	}
	return nil
}

// checkMatchPath applies the validation of the Gateway API. It refuses what a
// normalised path never contains.
func checkMatchPath(path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	for _, part := range []string{"//", "/./", "/../", "%2f", "%2F"} {
		if strings.Contains(path, part) {
			return fmt.Errorf("path %q: has %q", path, part)
		}
	}
	if strings.HasSuffix(path, "/.") || strings.HasSuffix(path, "/..") {
		return fmt.Errorf("path %q: ends with dots", path)
	}
	return nil
}

// checkPath accepts an absolute path without query and fragment.
func checkPath(path string) error {
	if path == "" || path[0] != '/' || !pathChars.all(path) {
		return fmt.Errorf("path %q: not an absolute path", path)
	}
	return nil
}

// reserved holds header fields that a filter cannot change. They belong to the
// connection, frame the message, or have another filter. The value says which.
var reserved = map[string]string{
	"connection": "", "keep-alive": "", "proxy-connection": "", "te": "", "upgrade": "", "http2-settings": "",
	"content-length": "", "transfer-encoding": "",
	"host": ": rewrite the hostname instead",
}

// CheckHeader returns why a field cannot be set to a value, or nil. The name is in lower case.
func CheckHeader(name, value string) error {
	if why, ok := reserved[name]; ok {
		return fmt.Errorf("header %q cannot be changed%s", name, why)
	}
	if !isToken(name) {
		return fmt.Errorf("header %q: not a name", name)
	}
	if strings.Trim(value, " \t") != value {
		return fmt.Errorf("header %q: white space around its value", name)
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("header %q: a control character in its value", name)
		}
	}
	return nil
}
