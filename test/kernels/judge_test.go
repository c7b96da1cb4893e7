package kernels

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/kernels/plan"
)

const (
	checkGood = `{"success":false,"categories":[{"categoryName":"kernel-features","checks":[{"description":"has sk_lookup","result":"success"}]}]}`
	checkLess = `{"categories":[{"categoryName":"kernel-features","checks":[{"description":"sockets can be destroyed","result":"warning"}]}]}`
	checkOld  = `{"categories":[{"categoryName":"kernel-features","checks":[{"description":"has cookies","result":"error","error":"no"}]}]}`
)

var noTCX = plan.Skip{Test: "TestB", Reason: "b_test.go:52: this kernel has no tcx (Linux 6.6): not supported"}

// console is what a guest prints that runs a kernel of a line.
func console(line string, results ...plan.Result) string {
	var b strings.Builder
	b.WriteString("SeaBIOS\r\n[    1.0] a message of the kernel\n")
	b.Write(plan.Message{Kernel: line + ".9-cloud-amd64"}.Line())
	b.Write(plan.Message{Test: "--- PASS: TestX (1.00s)"}.Line())
	for i := range results {
		b.WriteString("something without an end ")
		b.Write(plan.Message{Result: &results[i]}.Line())
	}
	b.Write(plan.Message{Done: true}.Line())
	return b.String()
}

func TestJudge(t *testing.T) {
	good := plan.Result{Step: "check", Code: 1, Output: checkGood}
	redirect, e2e := plan.Result{Step: "redirect", Passed: 50}, plan.Result{Step: "e2e", Passed: 9}
	with := func(r plan.Result, change func(*plan.Result)) plan.Result { change(&r); return r }
	for name, c := range map[string]struct {
		line    string
		console string
		run     string
		want    verdict
	}{
		"good": {"6.1", console("6.1", good, redirect, e2e), "", verdict{passed: 59}},
		"does without": {
			"6.1", console("6.1", plan.Result{Step: "check", Output: "a warning\n" + checkLess}, redirect, e2e),
			"",
			verdict{passed: 59, without: []string{"sockets can be destroyed"}},
		},
		"failed": {
			"6.1", console("6.1", good, with(redirect, func(r *plan.Result) { r.Code, r.Failed = 1, []string{"TestA"} }), e2e),
			"",
			verdict{passed: 59, wrong: []string{"redirect: TestA"}},
		},
		"skipped": {
			"6.1", console("6.1", good, with(redirect, func(r *plan.Result) { r.Skipped = []plan.Skip{{Test: "TestA", Reason: "a_test.go:1: no"}} }), e2e),
			"",
			verdict{passed: 59, wrong: []string{"redirect: TestA was skipped: a_test.go:1: no"}},
		},
		"skipped without a feature": {
			"6.1", console("6.1", good, with(redirect, func(r *plan.Result) { r.Skipped = []plan.Skip{noTCX, noTCX} }), e2e),
			"",
			verdict{passed: 59, without: []string{"tcx (Linux 6.6)"}},
		},
		"skipped with the feature": {
			"6.12", console("6.12", good, with(redirect, func(r *plan.Result) { r.Skipped = []plan.Skip{noTCX} }), e2e),
			"",
			verdict{passed: 59, wrong: []string{"redirect: TestB was skipped: " + noTCX.Reason}},
		},
		"killed": {
			"6.1", console("6.1", good, with(redirect, func(r *plan.Result) { r.Code = -1 }), e2e),
			"",
			verdict{passed: 59, wrong: []string{"redirect ended with -1"}},
		},
		"nothing ran": {"6.1", console("6.1", good, plan.Result{Step: "redirect"}, e2e), "", verdict{passed: 9, wrong: []string{"redirect: no test ran"}}},
		"missing feature": {
			"6.1", console("6.1", plan.Result{Step: "check", Output: checkOld}, redirect, e2e),
			"",
			verdict{passed: 59, wrong: []string{"agent check: has cookies: no"}},
		},
		"too old": {
			"5.10", console("5.10", plan.Result{Step: "check", Code: 1, Output: checkOld}, plan.Result{Step: "run", Code: 1, Output: "no: " + needs}, plan.Result{Step: "redirect", Passed: 1}),
			"",
			verdict{passed: 1, refused: true, without: []string{"has cookies"}},
		},
		"too old, and the agent does not notice": {
			"5.10", console("5.10", plan.Result{Step: "check", Code: 1, Output: checkGood}, plan.Result{Step: "run", Code: 1, Output: "no: " + needs}, plan.Result{Step: "redirect", Passed: 1}),
			"",
			verdict{passed: 1, wrong: []string{"agent check finds nothing missing"}},
		},
		"died": {
			"6.1", strings.TrimSuffix(console("6.1", good), string(plan.Message{Done: true}.Line())),
			"",
			verdict{wrong: []string{"the guest ended before it had run everything", "redirect has no result", "e2e has no result"}},
		},
		"chosen": {"6.1", console("6.1", good, redirect, plan.Result{Step: "e2e"}), "TestA", verdict{passed: 50}},
		"nothing chosen": {
			"6.1", console("6.1", good, plan.Result{Step: "redirect"}, plan.Result{Step: "e2e"}),
			"TestNone",
			verdict{wrong: []string{"no test ran"}},
		},
	} {
		var s session
		s.read(strings.NewReader(c.console), func(plan.Message) {})
		if s.release != c.line+".9-cloud-amd64" {
			t.Errorf("%s: got the release %q", name, s.release)
		}
		if diff := cmp.Diff(c.want, judge(c.line, (&options{run: c.run}).steps(c.line), &s), cmp.AllowUnexported(verdict{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestStale: a guest that has died of a breakpoint of its kernel is one to boot again, and no other.
func TestStale(t *testing.T) {
	oops := "[   43.850425] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n[   43.85] RIP: 0010:hash_conntrack_raw+0x41/0x100\n"
	for text, want := range map[string]bool{
		oops: true, console("6.12") + oops: false,
		"[   43.850425] BUG: kernel NULL pointer dereference\n[   43.85] Oops: Oops: 0002 [#1]\n": false,
	} {
		var s session
		s.read(strings.NewReader(text), func(plan.Message) {})
		if got := s.stale(); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	page := "# Page\n\n" + tableBegin + tableHead +
		"| 6.1 | amd64 | 6.1.0-1-cloud-amd64 | 3 tests passed | – |\n| 6.1 | arm64 | 6.1.0-1-cloud-arm64 | 3 tests passed | – |\n" + tableEnd + "\nThe rest.\n"
	o, short, load := options{arch: "amd64"}, options{arch: "amd64", short: true}, options{arch: "amd64", load: true}
	rows := []row{
		o.newRow("6.1.0-2-cloud-amd64", verdict{passed: 4, without: []string{"a", "b"}}),
		short.newRow("5.10.0-2-cloud-amd64", verdict{passed: 1, refused: true, without: []string{"cookies"}}),
		short.newRow("6.12.5+deb13-cloud-amd64", verdict{passed: 4}),
		load.newRow("6.18.5+deb13-cloud-amd64", verdict{passed: 1}),
	}
	want := "# Page\n\n" + tableBegin + tableHead +
		"| 5.10 | amd64 | 5.10.0-2-cloud-amd64 | the agent does not start, and says why | cookies |\n" +
		"| 6.1 | amd64 | 6.1.0-2-cloud-amd64 | 4 tests passed | a; b |\n" +
		"| 6.12 | amd64 | 6.12.5+deb13-cloud-amd64 | 4 tests passed (short form) | – |\n" +
		"| 6.18 | amd64 | 6.18.5+deb13-cloud-amd64 | every program loads | – |\n" +
		"| 6.1 | arm64 | 6.1.0-1-cloud-arm64 | 3 tests passed | – |\n" + tableEnd + "\nThe rest.\n"
	for range 2 { // a second time changes nothing
		got, err := update(page, rows)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("the page (-want +got):\n%s", diff)
		}
		page = got
	}
	if _, err := update("# Page\n", rows); err == nil {
		t.Error("a page without a table: got no error, want one")
	}
}
