package tapcmd

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/tap"
)

func TestNotices(t *testing.T) {
	batches := []*agentv1.TapEvents{{Lost: 4, Warnings: []string{"node-2 is not heard"}, Events: []*agentv1.TapEvent{{Kind: agentv1.TapEvent_CONN_OPEN}}}}
	stop := errors.New("stop")
	var out, errs bytes.Buffer
	write, err := (&Source{}).lineFormat("")
	if err != nil {
		t.Fatal(err)
	}
	err = writeEvents(func() (*agentv1.TapEvents, error) {
		if len(batches) == 0 {
			return nil, stop
		}
		b := batches[0]
		batches = batches[1:]
		return b, nil
	}, write, &out, &errs)
	if !errors.Is(err, stop) || !strings.HasPrefix(out.String(), "open ") || !strings.Contains(errs.String(), "‼ node-2 is not heard\n… 4 events lost") {
		t.Errorf("err %v, stdout %q, stderr %q", err, out.String(), errs.String())
	}
}

// TestJSONPathLines: each part that is found is on a line, and an event without one has none.
func TestJSONPathLines(t *testing.T) {
	s := &Source{JSONPath: func(expression string) (func(any) ([]any, error), error) {
		return func(value any) ([]any, error) {
			part, ok := value.(map[string]any)[expression]
			if !ok {
				return nil, nil
			}
			return []any{part, 2}, nil
		}, nil
	}}
	for output, want := range map[string]string{"jsonpath=origin": "\"proxy\"\n2\n", "jsonpath=none": ""} {
		write, err := s.lineFormat(output)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := write(nil, &tap.Event{}); string(got) != want || err != nil {
			t.Errorf("-o %s: %q, %v; want %q", output, got, err, want)
		}
	}
	if _, err := (&Source{}).lineFormat("jsonpath=origin"); err == nil {
		t.Error("without JSONPath: no error, want one")
	}
}
