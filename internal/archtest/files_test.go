package archtest

import (
	"fmt"
	"go/ast"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestFileLengths(t *testing.T) { report(t, lengthViolations(sources(t))) }

func lengthViolations(all []source) (out []string) {
	for _, s := range all {
		limit := maxLines
		switch {
		case s.generated:
			continue
		case s.isTest():
			limit = maxTestLines
		case within(s.path, "cmd"):
			limit = maxMainLines
		}
		if s.lines > limit {
			out = append(out, fmt.Sprintf("%s has %d lines, the limit is %d: split it", s.path, s.lines, limit))
		}
	}
	return out
}

func TestPackageDocs(t *testing.T) { report(t, docViolations(sources(t))) }

// docViolations wants one doc comment a package, so that there is one place to
// look and none contradicts another.
func docViolations(all []source) (out []string) {
	type entry struct{ files, docs []string }
	found := map[string]*entry{}
	for _, s := range all {
		if s.file == nil || s.generated || s.isTest() {
			continue
		}
		key := s.dir() + " " + s.file.Name.Name
		if found[key] == nil {
			found[key] = &entry{}
		}
		found[key].files = append(found[key].files, s.path)
		if s.file.Doc != nil {
			found[key].docs = append(found[key].docs, s.path)
			name := s.file.Name.Name
			if text := s.file.Doc.Text(); name != "main" && !strings.HasPrefix(text, "Package "+name+" ") {
				out = append(out, fmt.Sprintf("%s: the package comment begins %.30q, want %q", s.path, text, "Package "+name+" "))
			}
		}
	}
	for key, e := range found {
		if len(e.docs) != 1 {
			out = append(out, fmt.Sprintf("package %s has %d package comments %v, want exactly one", key, len(e.docs), e.docs))
		}
	}
	return out
}

func TestChainsAreVerifiedInOnePlace(t *testing.T) { report(t, verifyViolations(sources(t))) }

// ownChains are the files that verify certificates which no stranger sent.
var ownChains = []string{"pkg/mtls/ca/issuer.go", "pkg/cli/cluster/certs/certs.go"}

var (
	unboundedVerify = regexp.MustCompile(`\.Verify\((x509\.VerifyOptions|opts?\))|VerifyClientCertIfGiven,|RequireAndVerifyClientCert`)
	unboundedClient = regexp.MustCompile(`\bRootCAs:`)
)

// verifyViolations finds chains of peers that are verified past the bounds of
// pkg/mtls/certchain.
func verifyViolations(all []source) (out []string) {
	for _, s := range all {
		if s.isTest() || s.generated || !within(s.path, "pkg", "cmd") || within(s.path, "pkg/mtls/certchain") || slices.Contains(ownChains, s.path) {
			continue
		}
		text := strings.ReplaceAll(s.text, "certchain.Verify(", "")
		if unboundedVerify.MatchString(text) || unboundedClient.MatchString(text) {
			out = append(out, s.path+" verifies a certificate chain by itself: use pkg/mtls/certchain, which bounds what it costs")
		}
	}
	return out
}

func TestNoUnfinishedWork(t *testing.T) { report(t, markerViolations(sources(t))) }

// markers are put together here, so that this file does not hold them.
var markers = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME)\b`)

func markerViolations(all []source) (out []string) {
	for _, s := range all {
		if s.generated {
			continue
		}
		for i, line := range strings.Split(s.text, "\n") {
			if m := markers.FindString(line); m != "" {
				out = append(out, fmt.Sprintf("%s:%d: %s: do it, or open an issue", s.path, i+1, m))
			}
		}
	}
	return out
}

func TestWireReadersAreFuzzed(t *testing.T) { report(t, fuzzViolations(sources(t))) }

func fuzzViolations(all []source) (out []string) {
	exists, has := map[string]bool{}, map[string]bool{}
	for _, s := range all {
		if s.file == nil {
			continue
		}
		exists[s.dir()] = exists[s.dir()] || !s.isTest()
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.isTest() && strings.HasPrefix(f.Name.Name, "Fuzz") {
				has[s.dir()] = true
			}
		}
	}
	for _, dir := range fuzzed {
		if exists[dir] && !has[dir] {
			out = append(out, dir+" reads bytes from outside and has no fuzz target")
		}
	}
	return out
}

func TestSkipsAreOnTheList(t *testing.T) {
	all := sources(t)
	report(t, skipViolations(all))
	for file := range skips {
		if i := slices.IndexFunc(all, func(s source) bool { return s.path == file }); i >= 0 && !callsSkip(all[i]) {
			t.Errorf("%s skips no longer: drop the exception", file)
		}
	}
}

func skipViolations(all []source) (out []string) {
	for _, s := range all {
		if _, ok := skips[s.path]; !ok && callsSkip(s) {
			out = append(out, s.path+" skips a test: make it run, or put it on the list with the reason")
		}
	}
	return out
}

// callsSkip looks for Skip, Skipf and SkipNow of a test's usual receivers.
func callsSkip(s source) bool {
	return s.file != nil && anyNode(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return false
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
			return false
		}
		recv, ok := sel.X.(*ast.Ident)
		return ok && slices.Contains([]string{"t", "b", "f", "tb"}, recv.Name)
	})
}

func TestSetns(t *testing.T) { report(t, setnsViolations(sources(t))) }

// setnsViolations: a thread that changes its namespace is dangerous to share;
// the package that knows how is the only one that does. pkg/agent/confine forbids the call
// to the process, and its test makes calls that must fail.
func setnsViolations(all []source) (out []string) {
	for _, s := range all {
		if s.file == nil || within(s.path, "pkg/redirect", "pkg/agent/confine", "test") {
			continue
		}
		if anyNode(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			return ok && (sel.Sel.Name == "Setns" || sel.Sel.Name == "SYS_SETNS")
		}) {
			out = append(out, s.path+" changes its network namespace: only pkg/redirect and test do")
		}
	}
	return out
}

func TestEnginesStartNothing(t *testing.T) { report(t, engineViolations(sources(t))) }

// engineViolations: a sans-I/O engine has no goroutine and reads no clock.
func engineViolations(all []source) (out []string) {
	for _, s := range all {
		if s.file == nil || s.isTest() || !slices.Contains(pure, s.dir()) {
			continue
		}
		if anyNode(s.file, func(n ast.Node) bool { _, ok := n.(*ast.GoStmt); return ok }) {
			out = append(out, s.path+" starts a goroutine: the package is pure")
		}
		if anyNode(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return false
			}
			x, ok := sel.X.(*ast.Ident)
			return ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "NewTimer", "AfterFunc", "NewTicker", "Tick"}, sel.Sel.Name)
		}) {
			out = append(out, s.path+" reads the clock: the package is pure")
		}
	}
	return out
}

func anyNode(file *ast.File, is func(ast.Node) bool) (found bool) {
	ast.Inspect(file, func(n ast.Node) bool {
		found = found || n != nil && is(n)
		return !found
	})
	return found
}

// TestFileRulesCanFail feeds the rules what they must refuse.
func TestFileRulesCanFail(t *testing.T) {
	long := func(n int) string { return "// Package x is long.\npackage x\n" + strings.Repeat("//\n", n-2) }
	for name, tc := range map[string]struct {
		check      func([]source) []string
		path, text string
		want       int
	}{
		"long":             {lengthViolations, "pkg/x/x.go", long(601), 1},
		"just not long":    {lengthViolations, "pkg/x/x.go", long(600), 0},
		"long C":           {lengthViolations, "bpf/x.c", strings.Repeat("\n", 601), 1},
		"long test":        {lengthViolations, "pkg/x/x_test.go", long(1001), 1},
		"longish test":     {lengthViolations, "pkg/x/x_test.go", long(900), 0},
		"long main":        {lengthViolations, "cmd/x/main.go", long(81), 1},
		"generated":        {lengthViolations, "pkg/x/x.go", "// Code generated by x. DO NOT EDIT.\n\n" + long(700), 0},
		"no doc":           {docViolations, "pkg/x/x.go", "package x\n", 1},
		"detached doc":     {docViolations, "pkg/x/x.go", "// Package x is.\n\npackage x\n", 1},
		"doc of another":   {docViolations, "pkg/x/x.go", "// Package y is.\npackage x\n", 1},
		"marker":           {markerViolations, "bpf/x.c", "int x; /* TO" + "DO */\n", 1},
		"context":          {markerViolations, "pkg/x/x.go", "package x\nvar c = context.TO" + "DO()\n", 1},
		"no fuzz target":   {fuzzViolations, "pkg/mtls/x.go", "package mtls\n", 1},
		"skip":             {skipViolations, "pkg/x/x_test.go", "package x\nfunc f(t *testing.T) { t.Skipf(`x`) }\n", 1},
		"setns":            {setnsViolations, "pkg/agent/x.go", "package x\nvar e = unix.Setns(0, 0)\n", 1},
		"setns, raw":       {setnsViolations, "pkg/agent/x.go", "package x\nvar n = syscall.SYS_SETNS\n", 1},
		"setns, allowed":   {setnsViolations, "pkg/redirect/x.go", "package x\nvar e = unix.Setns(0, 0)\n", 0},
		"goroutine":        {engineViolations, "pkg/policy/x.go", "package policy\nfunc f() { go f() }\n", 1},
		"clock":            {engineViolations, "pkg/l7proxy/http1/x.go", "package http1\nvar n = time.Now()\n", 1},
		"clock as a value": {engineViolations, "pkg/l7proxy/http1/x.go", "package http1\nvar n = time.Now\n", 1},
	} {
		s, err := parseSource(tc.path, tc.text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := tc.check([]source{s}); len(got) != tc.want {
			t.Errorf("%s: %d violations, want %d: %q", name, len(got), tc.want, got)
		}
	}
	two := "// Package x is.\npackage x\n"
	a, _ := parseSource("pkg/x/a.go", two)
	b, _ := parseSource("pkg/x/b.go", two)
	if got := docViolations([]source{a, b}); len(got) != 1 {
		t.Errorf("two package comments: %q", got)
	}
}
