package expressions

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/expression"
)

type fields [][2]string

// Next implements authz.Fields.
func (f fields) Next(name string, from int) (string, int, bool) {
	for i := from; i < len(f); i++ {
		if f[i][0] == name {
			return f[i][1], i + 1, true
		}
	}
	return "", 0, false
}

// Alike implements authz.Fields.
func (f fields) Alike(name string, from int) (string, int, bool) {
	for i := from; i < len(f); i++ {
		if n := f[i][0]; n != name && strings.ReplaceAll(n, "_", "-") == name {
			return f[i][1], i + 1, true
		}
	}
	return "", 0, false
}

type claims map[string]any

// Value implements authz.Claims.
func (c claims) Value([]string, int) (string, bool) { return "", false }

// Object implements authz.Claims.
func (c claims) Object() map[string]any { return c }

func connection() *authz.Connection {
	return &authz.Connection{Peer: authz.ParsePeer("spiffe://td/ns/shop/sa/web"), Client: netip.MustParseAddr("::ffff:10.1.2.3"), Port: 8080}
}

func request(path string, headers ...string) *authz.Request {
	r := &authz.Request{Method: "POST", Authority: "Shop.example:80", Path: path, Principal: "iss/sub"}
	var f fields
	for i := 0; i < len(headers); i += 2 {
		f = append(f, [2]string{headers[i], headers[i+1]})
	}
	r.Fields = f
	r.Claims = claims{
		"sub": "sub", "admin": true, "level": json.Number("3"), "rate": json.Number("0.5"), "none": nil,
		"groups": []any{"dev", "ops"}, "realm": map[string]any{"roles": []any{"reader"}},
	}
	return r
}

// TestExpressions: what an expression yields for a request that has most of what there is. "":
// it is false; otherwise true, or why it fails.
func TestExpressions(t *testing.T) {
	r := request("/v1/pay?amount=3", "x-role", "admin", "cookie", "a=1", "x-twice", "1", "cookie", "b=2", "x-twice", "2")
	for text, want := range map[string]string{
		`request.method == "POST"`:                                             "true",
		`request.method == "GET"`:                                              "",
		`request.path == "/v1/pay"`:                                            "true",
		`request.query == "amount=3"`:                                          "true",
		`request.path.startsWith("/v1/")`:                                      "true",
		`request.path.matches("^/v[0-9]+/pay$")`:                               "true",
		`request.host == "shop.example"`:                                       "true",
		`request.headers["x-role"] == "admin"`:                                 "true",
		`request.headers["X-Role"] == "admin"`:                                 "true",
		`request.headers["x-" + "role"] in ["admin", "root"]`:                  "true",
		`"x-role" in request.headers`:                                          "true",
		`"x-other" in request.headers`:                                         "",
		`has(request.headers.accept)`:                                          "",
		`request.headers["x-other"] == "a"`:                                    expression.ErrAbsent.Error(),
		`request.headers["x-other"] != "a"`:                                    expression.ErrAbsent.Error(),
		`!("x-other" in request.headers) || request.headers["x-other"] == "a"`: "true",
		`request.headers["cookie"] == "a=1; b=2"`:                              "true",
		`request.headers["x-twice"].startsWith("1")`:                           expression.ErrAmbiguous.Error(),
		`request.headers["x-twice"] != "3"`:                                    "true",
		`request.headers["x-twice"] == "2"`:                                    expression.ErrAmbiguous.Error(),
		`source.identity == "spiffe://td/ns/shop/sa/web"`:                      "true",
		`source.namespace == "shop" && source.serviceAccount == "web"`:         "true",
		`source.trustDomain == "td"`:                                           "true",
		`source.address == "10.1.2.3"`:                                         "true",
		`destination.port == 8080`:                                             "true",
		`destination.port in [80, 443]`:                                        "",
		`auth.principal == "iss/sub"`:                                          "true",
		`auth.claims.sub == "sub"`:                                             "true",
		`auth.claims.admin == true`:                                            "true",
		`auth.claims.level >= 3 && auth.claims.rate < 1.0`:                     "true",
		`auth.claims.none == null`:                                             "true",
		`"ops" in auth.claims.groups`:                                          "true",
		`auth.claims.groups.exists(g, g.startsWith("de"))`:                     "true",
		`"reader" in auth.claims.realm.roles`:                                  "true",
		`auth.claims["realm"]["roles"].size() == 1`:                            "true",
		`has(auth.claims.email)`:                                               "",
		`auth.claims.email == "x"`:                                             expression.ErrAbsent.Error(),
		`auth.claims.sub > 3`:                                                  expression.ErrType.Error(),
		`auth.claims.sub == "sub" || auth.claims.email == "x"`:                 "true",
		`1 / (destination.port - 8080) == 1`:                                   expression.ErrOther.Error(),
		`auth.claims.groups.all(a, auth.claims.groups.all(b, auth.claims.groups.all(c, auth.claims.groups.all(d,
			auth.claims.groups.all(e, auth.claims.groups.all(f, auth.claims.groups.all(g, auth.claims.groups.all(h,
			auth.claims.groups.all(i, auth.claims.groups.all(j, a + b + c + d + e + f + g + h + i + j != ""))))))))))`: expression.ErrCost.Error(),
	} {
		p, err := Check(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := p.Matches(connection(), r)
		if s := says(got, err); s != want {
			t.Errorf("%s: got %q, want %q", text, s, want)
		}
	}
}

func says(ok bool, err error) string {
	switch {
	case err != nil && ok:
		return "true and " + err.Error()
	case err != nil:
		return err.Error()
	case ok:
		return "true"
	}
	return ""
}

// TestReadings: what servers may read in several ways has to give one result.
func TestReadings(t *testing.T) {
	folded := request("/a")
	folded.Method = "get"
	many := request("/")
	for i := range 9 {
		many.Fields = append(many.Fields.(fields), [2]string{"x-many", fmt.Sprint(i)})
	}
	stranger := request("/")
	stranger.Authority = "a@b"
	for _, c := range []struct {
		text, want string
		r          *authz.Request
	}{
		{`request.path.startsWith("/public/")`, expression.ErrAmbiguous.Error(), request("/public/../admin")},
		{`!request.path.startsWith("/admin")`, expression.ErrAmbiguous.Error(), request("/public/../admin")},
		{`request.path.startsWith("/admin")`, "true", request("/admin//x")},
		{`request.path.startsWith("/public/")`, expression.ErrAmbiguous.Error(), request("/public/..;x/admin")},
		{`request.method == "GET"`, expression.ErrAmbiguous.Error(), folded},
		{`request.headers["x-many"] != "9"`, expression.ErrRepeated.Error(), many},
		{`"x-many" in request.headers`, "true", many},
		{`request.headers["x-role"] == "1"`, expression.ErrAlike.Error(), request("/", "x-role", "1", "x_role", "2")},
		{`request.headers["x-role"] == "1"`, expression.ErrAlike.Error(), request("/", "x_role", "1")},
		{`!("x-role" in request.headers)`, expression.ErrAlike.Error(), request("/", "x_role", "1")},
		{`"x-role" in request.headers`, "true", request("/", "x-role", "1", "x_role", "2")},
		{`request.headers["a"] == "1" && request.headers["b"] == "1"`, expression.ErrRepeated.Error(), request("/", "a", "1", "a", "1", "b", "1", "b", "1")},
		{`request.host == "x" || true`, expression.ErrHost.Error(), stranger},
		{`true || request.host == "x"`, "true", stranger},
	} {
		p, err := Check(c.text)
		if err != nil {
			t.Fatal(c.text, err)
		}
		if got := says(p.Matches(connection(), c.r)); got != c.want {
			t.Errorf("%s, %s: got %q, want %q", c.text, c.r.Path, got, c.want)
		}
	}
	p, err := Check(`source.identity == "" && source.namespace == "" && auth.principal == "" && !has(auth.claims.sub)`)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := p.Matches(&authz.Connection{}, &authz.Request{}); !ok || err != nil {
		t.Errorf("a client of which nothing is known: got %v, %v", ok, err)
	}
}

// TestRefused: the status says what is wrong, and where.
func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		``:                                                           "line 1, column 1: Syntax error",
		`request.method = "GET"`:                                     "line 1, column 16: Syntax error",
		`request.verb == "GET"`:                                      "line 1, column 8: undeclared reference to 'request.verb'",
		`request.method == 3`:                                        "line 1, column 16: found no matching overload for '_==_' applied to '(string, int)'",
		"true &&\n  nobody":                                          "line 2, column 3: undeclared reference to 'nobody'",
		`request.time < timestamp("x")`:                              "line 1, column 8: undeclared reference to 'request.time'",
		`request.path`:                                               "is of the type string, want bool",
		`auth.claims.admin`:                                          "is of the type dyn, want bool",
		`request.headers.size() > 3`:                                 "request.headers can be read by name only",
		`request.headers == {"a": "b"}`:                              "request.headers can be read by name only",
		`request.headers.exists(h, h == "x")`:                        "request.headers can be read by name only",
		`[request.headers][0]["a"] == "b"`:                           "request.headers can be read by name only",
		`request.path.matches(request.headers["x"])`:                 "the regular expression of matches() must be a text",
		`matches(request.path, request.query)`:                       "the regular expression of matches() must be a text",
		`request.path.matches("(")`:                                  "error parsing regexp",
		`request.path.matches("((a{500}){500}){500}")`:               "error parsing regexp",
		`request.path.matches("(a{500}){2}")`:                        "regex",
		`"` + strings.Repeat("x", expression.MaxText) + `" == ""`:    "has 2056 bytes, more than 2048",
		strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200): "expression recursion limit exceeded",
		strings.Repeat("true || ", 240) + "true" + strings.Repeat(" && !!!!!!false", 8): "",
		`google.protobuf.StringValue{value: "a"} == "a"`:                                "messages cannot be made",
		`request.path.split("/")[1] == "a"`:                                             "undeclared reference to 'split'",
	} {
		_, err := Check(text)
		if want == "" && err == nil {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.80s: got %v, want %q", text, err, want)
		}
	}
}

// TestCheckedIsTheSame: agents are sent an expression again only if it has changed.
func TestCheckedIsTheSame(t *testing.T) {
	const text = `request.method == "GET" && auth.claims.groups.exists(g, g == "a") && request.path.startsWith("/") && source.namespace != ""`
	first, err := Check(text)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if again, err := Check(text); err != nil || !again.Equal(first) {
			t.Fatalf("got another form, or %v", err)
		}
	}
	if other, err := Check("true"); err != nil || other.Equal(first) {
		t.Errorf("another expression is the same, or %v", err)
	}
}

func BenchmarkMatches(b *testing.B) {
	for name, text := range map[string]string{
		"method":  `request.method == "POST"`,
		"header":  `request.headers["x-role"] == "admin"`,
		"claim":   `"ops" in auth.claims.groups`,
		"several": `request.headers["x-role"] == "admin" && source.namespace == "shop" && request.path.startsWith("/v1/")`,
		"regex":   `request.path.matches("^/v[0-9]+/pay$")`,
	} {
		p, err := Check(text)
		if err != nil {
			b.Fatal(err)
		}
		c, r := connection(), request("/v1/pay", "accept", "*/*", "x-role", "admin")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := p.Matches(c, r); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

// BenchmarkNew is what an agent does with an expression, once for each change.
func BenchmarkNew(b *testing.B) {
	p, err := Check(`request.headers["x-role"] == "admin" && source.namespace == "shop" && request.path.startsWith("/v1/")`)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ReportMetric(float64(len(p.Checked())), "bytes-sent")
	for b.Loop() {
		if _, err := expression.New(p.Checked()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCost is how long the most expensive evaluations take.
func BenchmarkCost(b *testing.B) {
	r := request("/" + strings.Repeat("a", 8000))
	var list []any
	for range 200 {
		list = append(list, strings.Repeat("b", 50))
	}
	r.Claims = claims{"l": list}
	for name, text := range map[string]string{
		"lists": `auth.claims.l.exists(a, auth.claims.l.exists(b, a != b || request.path.contains(a)))`,
		"regex": `auth.claims.l.exists(a, request.path.matches("(a|aa|ab|b|ba)*c$"))`,
		"texts": `auth.claims.l.map(a, request.path + a).all(a, a != "")`,
	} {
		p, err := Check(text)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Matches(connection(), r); !errors.Is(err, expression.ErrCost) {
					b.Fatal(err)
				}
			}
		})
	}
}

var update = flag.Bool("update", false, "write the seeds of the fuzz target that reads checked expressions")

// TestSeeds: the checked forms that pkg/policy/expression fuzzes are those of this checker.
func TestSeeds(t *testing.T) {
	for name, text := range map[string]string{
		"several": `request.headers["x-role"] == "admin" && source.namespace == "shop" && request.path.startsWith("/v1/")`,
		"lists":   `auth.claims.groups.exists(g, g.startsWith("de")) || "ops" in auth.claims.groups`,
		"regex":   `request.path.matches("^/v[0-9]+/pay$") ? destination.port in [80, 443] : has(request.headers.accept)`,
		"numbers": `auth.claims.level >= 3 && auth.claims.rate < 1.0 || {"a": 1}["a"] == 1`,
	} {
		p, err := Check(text)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("../../policy/expression/testdata/checked", name)
		if *update {
			if err := os.WriteFile(file, p.Checked(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if data, err := os.ReadFile(file); err != nil || !bytes.Equal(data, p.Checked()) {
			t.Errorf("%s is stale, run go test -update: %v", file, err)
		}
	}
}
