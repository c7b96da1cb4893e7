package crds

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/translate"
)

const faultHead = `
apiVersion: underlane.io/v1alpha1
kind: HTTPFault
metadata: {namespace: shop, name: f}
spec: `

// TestHTTPFaults: as TestAuthorizationPolicies. A field that is not known is dropped by the
// server, and ignored by the controller.
func TestHTTPFaults(t *testing.T) {
	d := load(t, "httpfault.yaml")
	for _, c := range []struct{ spec, server, controller string }{
		{"{delay: {duration: 100ms}}", "", ""},
		{"{delay: {duration: 1m, percent: 0}, abort: {status: 503, grpcStatus: 14, percent: 100}}", "", ""},
		{"{abort: {grpcStatus: 16}}", "", ""},
		{"{abort: {status: 200}}", "", ""},

		{"{}", "at least 1 properties", "neither"},
		{"{delay: {}}", "Required value", "delay"},
		{"{delay: {duration: 1}}", "must be of type string", "cannot unmarshal number"},
		{"{delay: {duration: 1.5s}}", "should match", "delay"},
		{"{delay: {duration: 1s, percent: 101}}", "less than or equal to 100", "101 percent"},
		{"{delay: {duration: 1s, percent: -1}}", "greater than or equal to 0", "-1 percent"},
		{"{abort: {}}", "at least 1 properties", "status"},
		{"{abort: {status: 199}}", "greater than or equal to 200", "199"},
		{"{abort: {status: 600}}", "less than or equal to 599", "600"},
		{"{abort: {grpcStatus: 17}}", "less than or equal to 16", "17"},
		{"{abort: {percent: 5}}", "want a status", "no status"},
		{"{delay: {duration: 11m}}", "", "delay"},
	} {
		o := object(t, faultHead, c.spec)
		server, controller := "", ""
		pruned, err := d.create(o)
		if err != nil {
			server = err.Error()
		}
		var f custom.HTTPFault
		data, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &f); err != nil {
			controller = err.Error()
		} else if _, err := translate.FaultOf(&f.Spec); err != nil {
			controller = err.Error()
		}
		if (server == "") != (c.server == "") || !strings.Contains(server, c.server) {
			t.Errorf("%s: an API server says %q, want %q", c.spec, server, c.server)
		}
		if (controller == "") != (c.controller == "") || !strings.Contains(controller, c.controller) {
			t.Errorf("%s: the controller says %q, want %q", c.spec, controller, c.controller)
		}
		if len(pruned) > 0 {
			t.Errorf("%s: %v are dropped", c.spec, pruned)
		}
	}
	o := object(t, faultHead, "{delay: {duration: 1s, jitter: 5}, rate: 5, abort: {status: 500, body: x}}")
	if pruned, err := d.create(o); err != nil || len(pruned) != 3 {
		t.Errorf("unknown fields: got %v, %v, want three that are dropped", pruned, err)
	}
}
