package command

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/cli/check"
)

// The dashboard of a lab shows what `agent check` says on each node, also where it says
// nothing.
func TestNodeCategories(t *testing.T) {
	output := `{"success":false,"categories":[
		{"categoryName":"kernel-features","checks":[{"description":"has sk_lookup","result":"success"}]},
		{"categoryName":"data-plane","checks":[
			{"description":"all pods are enrolled","result":"warning","error":"one is not","hint":"see its events"},
			{"description":"programs are attached","result":"error","error":"they are not"}]}]}`
	categories := nodeCategories("node-1", []byte(output), nil)
	categories = append(categories, nodeCategories("node-2", nil, errors.New("run agent check: no such file"))...)
	categories = append(categories, nodeCategories("node-3", []byte("no JSON"), nil)...)
	report := check.Run(t.Context(), categories, nil)
	got := report.Answer("v", time.Time{}).Categories
	if n := len(got); n != 4 || !strings.Contains(got[3].Checks[0].Message, "read the output of agent check") {
		t.Fatalf("got %+v, want four categories, the last one about output that cannot be read", got)
	}
	want := []check.AnswerCategory{
		{Name: "node-1: kernel-features", Checks: []check.AnswerCheck{{Description: "has sk_lookup", Result: "ok"}}},
		{Name: "node-1: data-plane", Checks: []check.AnswerCheck{
			{Description: "all pods are enrolled", Result: "warning", Message: "one is not", Hint: "see its events"},
			{Description: "programs are attached", Result: "error", Message: "they are not"},
		}},
		{Name: "node-2", Checks: []check.AnswerCheck{{Description: "agent check runs", Result: "error", Message: "run agent check: no such file", Hint: "bin/lab agent node-2 -- check"}}},
	}
	if diff := cmp.Diff(want, got[:3]); diff != "" {
		t.Error("(-want +got):", diff)
	}
}
