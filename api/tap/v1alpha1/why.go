package tapv1alpha1

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// WhyQuery is the question of …/why: would a call of From to To work?
type WhyQuery struct {
	Namespace, From string // TYPE/NAME: a workload or a pod. They are in the path
	ToNamespace, To string // TYPE/NAME: a Service, a workload or a pod. Without a namespace: that of From
	Port            uint16 // of To; 0: the only one of a Service
	// The request, for routes. Without a Path it is "/", without a Method GET.
	Method, Path, Authority string
	GRPC                    bool
	Headers                 []string // NAME=VALUE
	// Try says what connection to make: TryHTTP, TryHTTP2, TryTLS, TryTCP, or "" for none.
	Try string
}

// Values of WhyQuery.Try.
const (
	TryHTTP  = "http"  // HTTP/2 if the port speaks it, as far as is known, else HTTP/1.1
	TryHTTP2 = "http2" // HTTP/2 without TLS, with prior knowledge
	TryTLS   = "tls"
	TryTCP   = "tcp"
)

// WhyPath is the path of the question, and TryPath that of one with a connection, which is
// asked by POST. kind is one of Kinds.
func WhyPath(namespace, kind, name string) string { return namedPath(namespace, kind, name, "why") }

// TryPath is explained at WhyPath.
func TryPath(namespace, kind, name string) string { return namedPath(namespace, kind, name, "try") }

func namedPath(namespace, kind, name, what string) string {
	return Prefix + path.Join("/namespaces", url.PathEscape(namespace), kind, url.PathEscape(name), what)
}

func (q *WhyQuery) text() map[string]*string {
	return map[string]*string{
		"to": &q.To, "to-namespace": &q.ToNamespace, "method": &q.Method, "path": &q.Path, "authority": &q.Authority, "protocol": &q.Try,
	}
}

// Values writes q as parameters, except for what is in the path.
func (q WhyQuery) Values() url.Values {
	v := url.Values{}
	for name, field := range q.text() {
		if *field != "" {
			v.Set(name, *field)
		}
	}
	if q.Port != 0 {
		v.Set("port", strconv.Itoa(int(q.Port)))
	}
	if q.GRPC {
		v.Set("grpc", "true")
	}
	for _, h := range q.Headers {
		v.Add("header", h)
	}
	return v
}

// ParseWhy reads what Values writes.
func ParseWhy(values url.Values) (q WhyQuery, err error) {
	text := q.text()
	for name, all := range values {
		value := all[len(all)-1]
		field, isText := text[name]
		switch {
		case isText:
			*field = value
		case name == "port":
			var n uint64
			n, err = strconv.ParseUint(value, 10, 16)
			q.Port = uint16(n)
		case name == "grpc":
			q.GRPC, err = strconv.ParseBool(value)
		case name == "header":
			q.Headers = all
		case name == "timeout", name == "pretty":
		default:
			return q, fmt.Errorf("there is no parameter %q", name)
		}
		if err != nil {
			return q, fmt.Errorf("parameter %s=%s: %w", name, value, err)
		}
	}
	return q, q.check()
}

// Bounds of a WhyQuery: of its headers, and of the bytes of one of its texts.
const (
	maxWhyHeaders = 64
	maxWhyText    = 2048
)

func (q *WhyQuery) check() error {
	switch {
	case q.To == "":
		return errors.New("parameter to: which Service, workload or pod?")
	case len(q.Headers) > maxWhyHeaders:
		return fmt.Errorf("parameter header: at most %d", maxWhyHeaders)
	case len(q.Path) > maxWhyText, len(q.Authority) > maxWhyText, len(q.Method) > maxWhyText:
		return fmt.Errorf("parameters method, path, authority: at most %d bytes", maxWhyText)
	case q.Path != "" && q.Path[0] != '/':
		return fmt.Errorf("parameter path=%s: a path begins with /", q.Path)
	case strings.ContainsFunc(q.Path+q.Authority+q.Method, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		return errors.New("parameters method, path, authority: neither spaces nor control characters")
	}
	for _, h := range q.Headers {
		if name, _, ok := strings.Cut(h, "="); !ok || name == "" || len(h) > maxWhyText {
			return fmt.Errorf("parameter header=%s: want NAME=VALUE of at most %d bytes", h[:min(len(h), 100)], maxWhyText)
		}
	}
	switch q.Try {
	case "", TryHTTP, TryHTTP2, TryTLS, TryTCP:
		return nil
	}
	return fmt.Errorf("parameter protocol=%s: want http, http2, tls or tcp", q.Try)
}

// WhyReport is the answer of …/why.
type WhyReport struct {
	Kind       string    `json:"kind"` // WhyReport
	APIVersion string    `json:"apiVersion"`
	From       string    `json:"from"` // TYPE/NAME in namespace NAMESPACE
	To         string    `json:"to"`
	Works      bool      `json:"works"`
	Conclusion string    `json:"conclusion"` // a sentence
	Steps      []WhyStep `json:"steps"`
}

// Results of a WhyStep.
const (
	WhyOK      = "ok"
	WhyWarning = "warning" // it may work, and something is not as one may think
	WhyProblem = "problem" // the call does not work
	WhyUnknown = "unknown" // it cannot be told
)

// WhyStep is one part of the answer.
type WhyStep struct {
	Name     string   `json:"name"`   // client, server, policy, route, endpoints, recent, try
	Result   string   `json:"result"` // ok, warning, problem, unknown
	Text     string   `json:"text"`   // a sentence
	Evidence []string `json:"evidence"`
}
