package expression

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	exprpb "google.golang.org/genproto/googleapis/api/expr/v1alpha1"
	"google.golang.org/protobuf/proto"

	"github.com/underlane/underlane/pkg/policy/authz"
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
		if n := f[i][0]; n != name && strings.ReplaceAll(n, "_", "-") == strings.ReplaceAll(name, "_", "-") {
			return f[i][1], i + 1, true
		}
	}
	return "", 0, false
}

func call(id int64, function string, args ...*exprpb.Expr) *exprpb.Expr {
	return &exprpb.Expr{Id: id, ExprKind: &exprpb.Expr_CallExpr{CallExpr: &exprpb.Expr_Call{Function: function, Args: args}}}
}

func ident(id int64, name string) *exprpb.Expr {
	return &exprpb.Expr{Id: id, ExprKind: &exprpb.Expr_IdentExpr{IdentExpr: &exprpb.Expr_Ident{Name: name}}}
}

func text(id int64, s string) *exprpb.Expr {
	return &exprpb.Expr{Id: id, ExprKind: &exprpb.Expr_ConstExpr{ConstExpr: &exprpb.Constant{ConstantKind: &exprpb.Constant_StringValue{StringValue: s}}}}
}

func marshal(t testing.TB, e *exprpb.Expr) []byte {
	t.Helper()
	data, err := proto.Marshal(&exprpb.CheckedExpr{Expr: e})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestNotOfTheChecker: an agent refuses what the controller's checker would not have let
// through, and does not panic.
func TestNotOfTheChecker(t *testing.T) {
	deep := text(1, "")
	for i := range maxDepth + 1 {
		deep = call(int64(i+2), "!_", deep)
	}
	long := make([]*exprpb.Expr, maxNodes)
	for i := range long {
		long[i] = ident(int64(i+1), "x")
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":         {nil, "it is empty"},
		"other bytes":     {[]byte("none"), "no checked expression"},
		"too large":       {bytes.Repeat([]byte("x"), maxChecked+1), "more than 65536"},
		"too deep":        {marshal(t, deep), "too long"},
		"too long":        {marshal(t, call(5000, "f", long...)), "too long"},
		"all headers":     {marshal(t, call(1, "size", ident(2, requestHeaders))), "by name only"},
		"computed regex":  {marshal(t, call(1, "matches", ident(2, requestPath), ident(3, requestQuery))), "must be a text"},
		"an empty part":   {marshal(t, &exprpb.Expr{Id: 1}), ""},
		"too few of them": {marshal(t, call(1, "_[_]", ident(2, requestHeaders))), "by name only"},
	} {
		_, err := New(c.data)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	// What is not known fails when it is evaluated.
	for name, e := range map[string]*exprpb.Expr{
		"a variable":   ident(1, "request.verb"),
		"a function":   call(1, "nothing", ident(2, requestPath)),
		"no condition": ident(1, requestPath),
	} {
		p, err := New(marshal(t, e))
		if err != nil {
			continue
		}
		if ok, err := p.Matches(&authz.Connection{}, &authz.Request{}); ok || err == nil {
			t.Errorf("%s: got %v, %v, want an error", name, ok, err)
		}
	}
}

// FuzzProgram: whatever an agent is sent, there is no panic, the result is the same the second
// time, and an error is no match.
func FuzzProgram(f *testing.F) {
	f.Add(marshal(f, call(1, "_==_", ident(2, requestPath), text(3, "/a"))), "/a/../b", "x-role", "admin")
	f.Add(marshal(f, call(1, "_==_", call(2, "_[_]", ident(3, requestHeaders), text(4, "x-role")), text(5, "admin"))), "/", "x-role", "admin")
	seeds, err := filepath.Glob("testdata/checked/*")
	if err != nil || len(seeds) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, name := range seeds {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := New(data); err != nil {
			f.Error(name, err)
		}
		f.Add(data, "/a?b=c", "x-role", "admin")
	}
	f.Fuzz(func(t *testing.T, data []byte, path, name, value string) {
		p, err := New(data)
		if err != nil {
			return
		}
		c := &authz.Connection{Peer: authz.ParsePeer("spiffe://td/ns/a/sa/b"), Client: netip.MustParseAddr("10.0.0.1"), Port: 80}
		r := &authz.Request{Method: "GET", Authority: "a", Path: path, Fields: fields{{name, value}, {"accept", "a"}, {"accept", "b"}}}
		ok, err := p.Matches(c, r)
		if ok && err != nil {
			t.Fatalf("matches, and fails: %v", err)
		}
		again, err2 := p.Matches(c, r)
		if again != ok || err2 != err {
			t.Fatalf("got %v, %v and then %v, %v", ok, err, again, err2)
		}
	})
}
