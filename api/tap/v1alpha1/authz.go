package tapv1alpha1

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

// AuthzPath is the path of what policies have decided in a namespace, or in all of them with
// "" (AuthzList), and of a POST of policies to try (AuthzTry).
func AuthzPath(namespace string) string { return inNamespace(namespace, "authz") }

// AuthzSuggestPath is the path of the policies that the traffic of a namespace needs
// (AuthzSuggestion).
func AuthzSuggestPath(namespace string) string {
	return Prefix + path.Join("/namespaces", url.PathEscape(namespace), "authz", "suggestion")
}

// AuthzExplainPath is the path of the question what would decide about a call to an object
// (AuthzExplanation). kind is one of Kinds.
func AuthzExplainPath(namespace, kind, name string) string {
	return namedPath(namespace, kind, name, "authz")
}

// AuthzWindow is what agents remember of calls that policies have judged, and how much of it
// is judged by policies that are not applied.
const AuthzWindow = 15 * time.Minute

// AuthzQuery are the parameters of …/authz.
type AuthzQuery struct {
	// Namespace, Kind and Name say which servers; "": all. For a path with a namespace it is
	// that one.
	Namespace, Kind, Name string
	Window                time.Duration // 0: DefaultWindow
}

func (q *AuthzQuery) text() map[string]*string {
	return map[string]*string{"namespace": &q.Namespace, "kind": &q.Kind, "name": &q.Name}
}

// Target is the servers in the form of tap's targets.
func (q *AuthzQuery) Target() string {
	if q.Name == "" {
		return q.Kind
	}
	return q.Kind + "/" + q.Name
}

// Values writes q as parameters.
func (q AuthzQuery) Values() url.Values {
	v := writeText(q.text())
	if q.Window != 0 {
		v.Set("window", q.Window.String())
	}
	return v
}

// ParseAuthz reads what Values writes. Unknown parameters are refused.
func ParseAuthz(values url.Values) (q AuthzQuery, err error) {
	q.Window = DefaultWindow
	err = readText(values, q.text(), func(name, value string) (bool, error) {
		if name != "window" {
			return false, nil
		}
		d, err := time.ParseDuration(value)
		if err == nil && (d < time.Second || d > AuthzWindow) {
			err = fmt.Errorf("want 1s to %s", AuthzWindow)
		}
		q.Window = d
		return true, err
	})
	if err == nil && q.Name != "" && q.Kind == "" {
		err = errors.New("parameter name: kind is missing")
	}
	return q, err
}

// AuthzList is the answer of …/authz: what policies have decided about calls.
type AuthzList struct {
	Kind       string     `json:"kind"` // AuthzList
	APIVersion string     `json:"apiVersion"`
	Seconds    float64    `json:"seconds"` // that the counts are of
	Nodes      Nodes      `json:"nodes"`
	Warnings   []string   `json:"warnings"`
	Items      []AuthzRow `json:"items"`
}

// AuthzRow counts calls that are alike.
type AuthzRow struct {
	Namespace string `json:"namespace"` // of the server's owner
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	// Object is what decided: KIND.GROUP NAMESPACE/NAME, or "default" and a mode. One that has
	// decided nothing has a row without calls.
	Object    string `json:"object"`
	Rule      string `json:"rule,omitempty"`
	Verdict   string `json:"verdict,omitempty"` // allowed, denied, audited; "": no call
	Why       string `json:"why,omitempty"`
	Audit     string `json:"audit,omitempty"`     // what asks to report it
	WouldDeny string `json:"wouldDeny,omitempty"` // what would deny it if it were applied
	Client    string `json:"client,omitempty"`    // SPIFFE ID; "": none
	Address   string `json:"address,omitempty"`   // "": several, or not kept
	Port      uint16 `json:"port,omitempty"`
	Method    string `json:"method,omitempty"` // "": a connection; "*": not kept
	Host      string `json:"host,omitempty"`
	Path      string `json:"path,omitempty"` // template: {*} is any segment, {**} any text
	Calls     uint64 `json:"calls"`
	Failed    uint64 `json:"failed,omitempty"` // of Calls: let in, and without success
	Open      uint64 `json:"open,omitempty"`   // connections that are open now
}

// AuthzExplainQuery is the question what would decide about a call.
type AuthzExplainQuery struct {
	Namespace, To string // TYPE/NAME: a Service, a workload or a pod. They are in the path
	// From is a workload or a pod, without FromNamespace of the namespace of To. "": a client
	// without an identity.
	FromNamespace, From string
	Port                uint16 // 0: the only one that is known
	// The request. Without a Method, a connection is decided.
	Method, Path, Authority string
	Headers                 []string // NAME=VALUE
	Claims                  string   // of the request's token, an object of JSON; "": it has none
}

func (q *AuthzExplainQuery) text() map[string]*string {
	return map[string]*string{
		"from": &q.From, "from-namespace": &q.FromNamespace, "method": &q.Method, "path": &q.Path, "authority": &q.Authority,
		"claims": &q.Claims,
	}
}

// Values writes q as parameters, except for what is in the path.
func (q AuthzExplainQuery) Values() url.Values {
	v := writeText(q.text())
	if q.Port != 0 {
		v.Set("port", strconv.Itoa(int(q.Port)))
	}
	for _, h := range q.Headers {
		v.Add("header", h)
	}
	return v
}

// ParseAuthzExplain reads what Values writes.
func ParseAuthzExplain(values url.Values) (q AuthzExplainQuery, err error) {
	q.Headers = values["header"]
	err = readText(values, q.text(), func(name, value string) (bool, error) {
		switch name {
		case "header":
			return true, nil
		case "port":
			n, err := strconv.ParseUint(value, 10, 16)
			q.Port = uint16(n)
			return true, err
		}
		return false, nil
	})
	if err != nil {
		return q, err
	}
	if len(q.Claims) > maxWhyText {
		return q, fmt.Errorf("parameter claims: at most %d bytes", maxWhyText)
	}
	w := WhyQuery{To: "x", Method: q.Method, Path: q.Path, Authority: q.Authority, Headers: q.Headers}
	return q, w.check()
}

// AuthzExplanation is the answer: what decides about a call.
type AuthzExplanation struct {
	Kind       string `json:"kind"` // AuthzExplanation
	APIVersion string `json:"apiVersion"`
	From       string `json:"from"`
	Client     string `json:"client,omitempty"` // SPIFFE ID; "": none
	To         string `json:"to"`               // the pod
	Port       uint16 `json:"port"`
	Request    string `json:"request,omitempty"` // METHOD PATH; "": a connection
	Allowed    bool   `json:"allowed"`
	Verdict    string `json:"verdict"` // allow, deny, needs-request, ask
	Why        string `json:"why,omitempty"`
	Object     string `json:"object,omitempty"`
	Rule       string `json:"rule,omitempty"`
	Audit      string `json:"audit,omitempty"`
	WouldDeny  string `json:"wouldDeny,omitempty"`
	Conclusion string `json:"conclusion"` // a sentence
	// Limits are those that the request has to be within besides, in words.
	Limits []string `json:"limits,omitempty"`
	// DecidedBy says whose policies decided: the agent's of the server's node, or the
	// controller's, and why.
	DecidedBy string   `json:"decidedBy"`
	Notes     []string `json:"notes"`
}

// AuthzTry is the answer to a POST of policies: what they would change.
type AuthzTry struct {
	Kind       string        `json:"kind"` // AuthzTry
	APIVersion string        `json:"apiVersion"`
	Objects    int           `json:"objects"` // policies that were tried
	Nodes      Nodes         `json:"nodes"`
	Warnings   []string      `json:"warnings"`
	Problems   []string      `json:"problems"` // what is not understood of the policies, and fails closed
	Notes      []string      `json:"notes"`    // what cannot be known
	Calls      uint64        `json:"calls"`    // that were judged
	Allowed    uint64        `json:"allowed"`  // by both
	Denied     uint64        `json:"denied"`   // by both
	Lost       uint64        `json:"lost"`     // would be denied, and are allowed now
	Won        uint64        `json:"won"`      // would be allowed, and are denied now
	Unsure     uint64        `json:"unsure"`   // of Calls: a rule may look at what is not recorded
	Changes    []AuthzChange `json:"changes"`  // the most frequent first, up to MaxAuthzChanges
}

// MaxAuthzChanges bounds AuthzTry.Changes.
const MaxAuthzChanges = 200

// AuthzChange is a kind of call that would be decided differently.
type AuthzChange struct {
	AuthzRow
	NowAllowed bool   `json:"nowAllowed"`
	NowBy      string `json:"nowBy"` // object and rule
	ThenBy     string `json:"thenBy"`
	Unsure     bool   `json:"unsure,omitempty"`
}

// Languages of AuthzSuggestion.
const (
	LangOwn     = "own"
	LangLinkerd = "linkerd"
	LangIstio   = "istio"
)

// AuthzSuggestion is the answer of …/authz/suggestion: the policies that the traffic needs.
type AuthzSuggestion struct {
	Kind       string   `json:"kind"` // AuthzSuggestion
	APIVersion string   `json:"apiVersion"`
	Nodes      Nodes    `json:"nodes"`
	Warnings   []string `json:"warnings"`
	Notes      []string `json:"notes"`
	Calls      uint64   `json:"calls"` // that the policies are made of
	Manifest   string   `json:"manifest"`
}

// ParseAuthzSuggest reads the language that a question for a suggestion has.
func ParseAuthzSuggest(values url.Values) (lang string, err error) {
	lang = LangOwn
	err = readText(values, map[string]*string{"lang": &lang}, func(string, string) (bool, error) { return false, nil })
	if err == nil && lang != LangOwn && lang != LangLinkerd && lang != LangIstio {
		err = fmt.Errorf("parameter lang=%s: use %s", lang, strings.Join([]string{LangOwn, LangLinkerd, LangIstio}, ", "))
	}
	return lang, err
}
