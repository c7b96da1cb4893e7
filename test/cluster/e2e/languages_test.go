package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// linkerdKinds are the kinds of policy.linkerd.io that are read: versions, the one that is stored
// first, and whether and how there is a status.
var linkerdKinds = []struct{ plural, kind, versions, status string }{
	{"servers", "Server", "v1beta3 v1beta2 v1beta1", ""},
	{"authorizationpolicies", "AuthorizationPolicy", "v1alpha1", ""},
	{"meshtlsauthentications", "MeshTLSAuthentication", "v1alpha1", ""},
	{"networkauthentications", "NetworkAuthentication", "v1alpha1", ""},
	{"serverauthorizations", "ServerAuthorization", "v1beta1", ""},
	{"httproutes", "HTTPRoute", "v1beta3 v1beta2 v1beta1", routeStatusSchema},
	{"httplocalratelimitpolicies", "HTTPLocalRateLimitPolicy", "v1alpha1", conditionsSchema + ", targetRef: {type: object, required: [name], properties: {group: {type: string}, kind: {type: string}, name: {type: string}}}}, required: [targetRef]"},
	{"egressnetworks", "EgressNetwork", "v1alpha1", conditionsSchema + "}"},
}

// Linkerd's conditions have no generation: an API server drops one. Those of routes do.
const (
	conditionSchema   = "type: array, items: {type: object, required: [status, type], properties: {lastTransitionTime: {type: string, format: date-time}, status: {type: string}, type: {type: string}, reason: {type: string, minLength: 1}, message: {type: string}%s}}"
	conditionsSchema  = "properties: {conditions: {" + conditionSchema + "}"
	routeStatusSchema = "required: [parents], properties: {parents: {type: array, items: {type: object, required: [controllerName, parentRef], properties: {controllerName: {type: string}, parentRef: {type: object, required: [name], properties: {group: {type: string}, kind: {type: string}, namespace: {type: string}, name: {type: string}, sectionName: {type: string}, port: {type: integer}}}, conditions: {" + conditionSchema + "}}}}}"
)

// linkerdDefinitions are CustomResourceDefinitions of these kinds, in which a specification may be
// anything and a status is of the form that Linkerd's have.
func linkerdDefinitions() (out string) {
	for _, k := range linkerdKinds {
		status, sub := "", ""
		if k.status != "" {
			more := ""
			if k.kind == "HTTPRoute" {
				more = ", observedGeneration: {type: integer, format: int64}"
			}
			status, sub = ", status: {type: object, "+fmt.Sprintf(k.status, more)+"}", ", subresources: {status: {}}"
		}
		var versions []string
		for i, v := range strings.Fields(k.versions) {
			versions = append(versions, fmt.Sprintf("{name: %s, served: true, storage: %v%s, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, x-kubernetes-preserve-unknown-fields: true}%s}}}}", v, i == 0, sub, status))
		}
		out += fmt.Sprintf(`---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[1]s.policy.linkerd.io}
spec:
  group: policy.linkerd.io
  scope: Namespaced
  names: {plural: %[1]s, singular: %[2]s, kind: %[3]s}
  versions: [%[4]s]
`, k.plural, strings.ToLower(k.kind), k.kind, strings.Join(versions, ", "))
	}
	return out
}

// istioDefinitions are those of Istio's policies, of the module in which Istio publishes them.
func istioDefinitions(t *testing.T) (out string) {
	t.Helper()
	download := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "istio.io/api@v1.32.0")
	download.Dir = t.TempDir() // of no module
	text, err := download.Output()
	var module struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(text, &module); err != nil || jsonErr != nil || module.Error != "" {
		t.Fatalf("Istio's API: %v, %s", err, module.Error)
	}
	all, err := os.ReadFile(filepath.Join(module.Dir, "kubernetes/customresourcedefinitions.gen.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for doc := range strings.SplitSeq(string(all), "\n---\n") {
		if strings.Contains(doc, "\n  group: security.istio.io\n") {
			out += "---\n" + doc + "\n"
		}
	}
	return out
}

// policyDefinitions installs the definitions of policies of other meshes for the time of the
// test, and leaves those alone that are there.
func policyDefinitions(t *testing.T) {
	t.Helper()
	httpRoutes(t)
	definitions := istioDefinitions(t)
	if _, err := tryKubectl(t, "get", "crd", "servers.policy.linkerd.io"); err != nil {
		definitions += linkerdDefinitions()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, _ = try(ctx, definitions, "kubectl", "--", "delete", "--wait=false", "--ignore-not-found", "-f", "-")
	})
	for _, args := range [][]string{{"apply", "--server-side", "-f", "-"}, {"wait", "--for=condition=Established", "--timeout=60s", "-f", "-"}} {
		if _, err := try(t.Context(), definitions, append([]string{"kubectl", "--"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
}

// policyStatuses are the objects that get a status, as KIND GROUP NAME, and what Accepted is.
var policyStatuses = map[string]string{
	"HTTPLocalRateLimitPolicy policy.linkerd.io jobs": "True", "HTTPLocalRateLimitPolicy policy.linkerd.io broken": "False",
	"EgressNetwork policy.linkerd.io outside": "True", "EgressNetwork policy.linkerd.io broken": "False",
	"HTTPRoute policy.linkerd.io read": "True",

	"HTTPRoute gateway.networking.k8s.io write": "True", "GRPCRoute gateway.networking.k8s.io health": "True",
	"HTTPRoute gateway.networking.k8s.io outside": "True", "TLSRoute gateway.networking.k8s.io outside": "True", "TCPRoute gateway.networking.k8s.io outside": "True",
	"HTTPRoute gateway.networking.k8s.io asked": "True", "HTTPRoute gateway.networking.k8s.io broken": "False",

	"AuthorizationPolicy policy.underlane.io web": "True", "AuthorizationPolicy policy.underlane.io broken": "False",
	"RateLimitPolicy policy.underlane.io rare": "True",

	"PeerAuthentication security.istio.io strict": "True", "RequestAuthentication security.istio.io tokens": "True",
	"AuthorizationPolicy security.istio.io admin": "True", "AuthorizationPolicy security.istio.io broken": "False",
}

type conditions []struct{ Type, Status string }

// accepted returns what Underlane says in the statuses of all objects of policies.
func accepted(t *testing.T, ns string) (map[string]string, error) {
	out, err := tryKubectl(t, "get", "-n", ns, "-o", "json", "httplocalratelimitpolicies.policy.linkerd.io,egressnetworks.policy.linkerd.io,httproutes.policy.linkerd.io,"+
		"httproutes.gateway.networking.k8s.io,grpcroutes.gateway.networking.k8s.io,tlsroutes.gateway.networking.k8s.io,tcproutes.gateway.networking.k8s.io,"+
		"authorizationpolicies.policy.underlane.io,ratelimitpolicies.policy.underlane.io,"+
		"peerauthentications.security.istio.io,requestauthentications.security.istio.io,authorizationpolicies.security.istio.io")
	if err != nil {
		return nil, err
	}
	type byController []struct {
		ControllerName string
		Conditions     conditions
	}
	var list struct {
		Items []struct {
			Kind, APIVersion string
			Metadata         struct{ Name string }
			Status           struct {
				Conditions         conditions
				Parents, Ancestors byController
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, o := range list.Items {
		group, _, _ := strings.Cut(o.APIVersion, "/")
		of := o.Status.Conditions
		for _, by := range append(o.Status.Parents, o.Status.Ancestors...) {
			if by.ControllerName == "underlane.io/controller" {
				of = append(of, by.Conditions...)
			}
		}
		all[o.Kind+" "+group+" "+o.Metadata.Name] = ""
		for _, c := range of {
			if c.Type == "Accepted" && group != "security.istio.io" || c.Type == "underlane.io/Accepted" {
				all[o.Kind+" "+group+" "+o.Metadata.Name] += c.Status
			}
		}
	}
	return all, nil
}

// TestPolicyObjects: each kind of policies is read from a real API server, has its effect, and has
// its status written, with the rights that the chart gives.
func TestPolicyObjects(t *testing.T) {
	t.Parallel()
	policyDefinitions(t)
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	text, err := os.ReadFile("testdata/policies.yaml")
	if err != nil {
		t.Fatal(err)
	}
	client := func(name, on string) string {
		return deployment(name, clientArgs, node(on), podSpec("serviceAccountName: "+strings.TrimSuffix(name, "-near")))
	}
	objects := "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: job}\n---\n" +
		client("web", "node-1") + client("job", "node-1") + client("web-near", "node-2") + client("job-near", "node-2") +
		deployment("outsider", clientArgs, node("node-1"), func(p *podTemplate) { p.labels += ", underlane.io/mesh: disabled" }) +
		deployment("authorizer", []string{"authorizer"}, node("node-2")) + service("authorizer", []string{"80:8080"})
	for _, server := range []string{"linkerd", "own", "istio", "asked", "broken"} {
		objects += deployment(server, serveAll, node("node-2")) + service(server, []string{"80:8080", "7002:7002"})
	}
	apply(t, ns, objects+string(text))
	kubectl(t, "wait", "-n", ns, "--for=condition=Available", "--timeout=170s", "deploy", "--all")
	var pods map[string]string // by app
	eventually(t, patience, func() error {
		out, err := tryKubectl(t, "get", "pods", "-n", ns, "-o", `jsonpath={range .items[*]}{.metadata.labels.app} {.metadata.name} {.metadata.annotations.underlane\.io/status}{"\n"}{end}`)
		pods = map[string]string{}
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			if f[0] != "outsider" && (len(f) < 3 || !strings.HasPrefix(f[2], "enrolled")) {
				err = errors.Join(err, fmt.Errorf("%s: not enrolled", line))
			}
			pods[f[0]] = "pod/" + f[1]
		}
		return err
	})

	eventually(t, 2*patience, func() error {
		got, err := accepted(t, ns)
		if diff := cmp.Diff(policyStatuses, got); err == nil && diff != "" {
			err = fmt.Errorf("-want +got:\n%s", diff)
		}
		return err
	})

	// get expects the status, and the reason of the mesh if there is one.
	get := func(client, want string, args ...string) {
		t.Helper()
		eventually(t, patience, func() error {
			s, err := tryRequests(t, ns, pods[client], args...)
			got := ""
			for status := range s.Status {
				got += status
			}
			for reason := range s.Reasons {
				got += " " + reason
			}
			if err == nil && got != want {
				err = fmt.Errorf("%s, %q: got %q, want %q (%+v)", client, args, got, want, s)
			}
			return err
		})
	}
	for near, http2 := range map[string]string{"": "--http2=false", "-near": "--http2=true"} {
		get("web"+near, "200", http2, "http://linkerd/read")
		get("job"+near, "403 policy-denied", http2, "http://linkerd/read")
		get("web"+near, "404 route-not-found", http2, "http://linkerd/other")
		get("web"+near, "403 policy-denied", http2, "-X", "POST", "http://linkerd/write")
		get("web"+near, "200", http2, "http://own/v1/x")
		get("job"+near, "403 policy-denied", http2, "http://own/v1/x")
		get("web"+near, "403 policy-denied", http2, "http://own/v2")
		get("job"+near, "200", http2, "http://istio/")
		get("job"+near, "401 bad-token", http2, "-H", "Authorization: Bearer nonsense", "http://istio/")
		get("job"+near, "403 policy-denied", http2, "http://istio/admin/x")
		get("web"+near, "401 external-denied", http2, "http://asked/")
		get("web"+near, "200", http2, "-H", "x-token: good", "http://asked/")
		get("web"+near, "403 egress-denied", http2, "http://192.0.2.1/")
		get("web"+near, "500 bad-backend", http2, "http://broken/")
	}
	get("outsider", "403 policy-denied", "http://istio/")
	for client, let := range map[string]bool{"web": true, "job": false, "web-near": true, "job-near": false, "outsider": false} {
		if _, err := in(t, ns, pods[client], "/labtest", "send", "linkerd:7002"); (err == nil) != let {
			t.Errorf("port 7002 from %s: %v, want it let in: %v", client, err, let)
		}
	}
	for name, args := range map[string][]string{
		"Linkerd's": {"job", "-X", "POST", "-n", "20", "http://linkerd/write"},
		"ours":      {"web", "-n", "20", "http://own/v1/rare"},
	} {
		if s := requests(t, ns, pods[args[0]], args[1:]...); s.Reasons["rate-limited"] == 0 || s.Status["200"]+s.Reasons["rate-limited"] != 20 {
			t.Errorf("a limit of %s: got %+v", name, s)
		}
	}
	for line := range strings.Lines(kubectl(t, "logs", "-n", system, "deploy/underlane-controller", "--all-pods", "--since=10m")) {
		if strings.Contains(line, "forbidden") {
			t.Error("the controller says:", line)
		}
	}
}
