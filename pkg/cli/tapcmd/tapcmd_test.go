package tapcmd

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
)

func TestNotices(t *testing.T) {
	batches := []*agentv1.TapEvents{{Lost: 4, Warnings: []string{"node-2 is not heard"}, Events: []*agentv1.TapEvent{{Kind: agentv1.TapEvent_CONN_OPEN}}}}
	stop := errors.New("stop")
	var out, errs bytes.Buffer
	write, err := lineFormat("")
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
