package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/cli"
)

func result(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

var sample = []Category{
	{Name: "kernel-features", Probes: []Probe{
		{Name: "kernel supports sk_lookup", Run: result(nil), Hint: "upgrade"},
		{Name: "kernel has BTF", Run: result(errors.New("no /sys/kernel/btf/vmlinux")), Hint: "enable CONFIG_DEBUG_INFO_BTF"},
	}},
	{Name: "identity", Probes: []Probe{
		{Name: "certificates are renewed", Run: result(fmt.Errorf("look: %w", Warn(errors.New("renewal is late")))), Hint: "look at the controller"},
		{Name: "agent answers", Run: result(Hinted(errors.New("no socket\nat all"), "start it")), Hint: "unused", Fatal: true},
		{Name: "never reached", Run: func(context.Context) error { panic("reached") }},
	}},
	{Name: "never reached either", Probes: []Probe{{Name: "x", Run: func(context.Context) error { panic("reached") }}}},
}

func TestTable(t *testing.T) {
	var b strings.Builder
	p := &Printer{Out: &b}
	p.Finish(Run(t.Context(), sample, p.Progress))
	want := `kernel-features
---------------
√ kernel supports sk_lookup
× kernel has BTF
    no /sys/kernel/btf/vmlinux
    enable CONFIG_DEBUG_INFO_BTF

identity
--------
‼ certificates are renewed
    look: renewal is late
    look at the controller
× agent answers
    no socket
    at all
    start it

Status check results are ×
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestShort(t *testing.T) {
	good := []Category{{Name: "a", Probes: []Probe{{Name: "b", Run: result(nil)}}}}
	var b strings.Builder
	p := &Printer{Out: &b, OnlyBad: true}
	p.Finish(Run(t.Context(), good, p.Progress))
	if diff := cmp.Diff("Status check results are √\n", b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestWarningsDoNotFail(t *testing.T) {
	r := Run(t.Context(), []Category{{Name: "a", Probes: []Probe{{Name: "b", Run: result(Warn(errors.New("c")))}}}}, nil)
	if !r.Success || r.Categories[0].Checks[0].Result != Warning {
		t.Errorf("%+v, want success with a warning", r)
	}
}

func TestJSON(t *testing.T) {
	var b strings.Builder
	if err := Run(t.Context(), sample[:1], nil).WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"success": false, "categories": []any{map[string]any{
		"categoryName": "kernel-features", "checks": []any{
			map[string]any{"description": "kernel supports sk_lookup", "result": "success"},
			map[string]any{"description": "kernel has BTF", "result": "error", "error": "no /sys/kernel/btf/vmlinux", "hint": "enable CONFIG_DEBUG_INFO_BTF"},
		},
	}}}
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Error(diff)
	}
}

func TestOutput(t *testing.T) {
	bad := sample[:1]
	good := []Category{{Name: "a", Probes: []Probe{{Name: "b", Run: result(nil)}}}}
	for name, tc := range map[string]struct {
		format     string
		categories []Category
		want       string // part of the output
		err        string
	}{
		"table":       {"table", good, "√ b\n", ""},
		"table, bad":  {"table", bad, "√ kernel supports sk_lookup\n", cli.ErrSilent.Error()},
		"short":       {"short", bad, "× kernel has BTF\n", cli.ErrSilent.Error()},
		"json":        {"json", good, `"success": true`, ""},
		"json, bad":   {"json", bad, `"success": false`, cli.ErrSilent.Error()},
		"no such":     {"xml", []Category{{Probes: []Probe{{Run: func(context.Context) error { panic("reached") }}}}}, "", `output format "xml": use table, json or short`},
		"short, good": {"short", good, "Status check results are √\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			got := ""
			if err := (&Output{tc.format}).Run(t.Context(), &out, tc.categories); err != nil {
				got = err.Error()
			}
			if got != tc.err || !strings.Contains(out.String(), tc.want) {
				t.Errorf("error %q, want %q; output without %q:\n%s", got, tc.err, tc.want, out.String())
			}
			if tc.format == "short" && strings.Contains(out.String(), "√ kernel") {
				t.Errorf("short shows what is well:\n%s", out.String())
			}
		})
	}
}

func TestNothingIsNoError(t *testing.T) {
	if err := Warn(Lines(nil)); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if got := Lines([]string{"a", "b"}); got == nil || got.Error() != "a\nb" {
		t.Errorf("got %v, want two lines", got)
	}
}
