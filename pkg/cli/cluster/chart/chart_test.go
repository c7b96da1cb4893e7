package chart

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/internal/version"
)

var update = flag.Bool("update", false, "write the golden files")

const pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"

// variants are values, as --set has them; an entry that starts with @ is a file
// of the chart.
var variants = map[string][]string{
	"ha":         {"@" + HAFile},
	"external":   {"identity.issuer.existing=true"},
	"no-tap":     {"tap.enabled=false"},
	"history":    {"controller.history.volume.persistentVolumeClaim.claimName=figures", "controller.history.bytes=134217728"},
	"forgets":    {"controller.history.enabled=false", "controller.history.volume.emptyDir.sizeLimit=1Gi"},
	"faults":     {"faultInjection.enabled=true"},
	"policies":   {"authorizationPolicies.enabled=true", "rateLimitPolicies.enabled=true", "policy.default=cluster-authenticated", "policy.clusterNetworks={10.0.0.0/8,fd00::/8}", "policy.istioRootNamespace=config", "policy.extensionProviders[0].name=bouncer", "policy.extensionProviders[0].envoyExtAuthzHttp.service=bouncer.auth", "policy.extensionProviders[0].envoyExtAuthzHttp.port=80", "policy.extensionProviders[0].envoyExtAuthzHttp.includeRequestHeadersInCheck={x-a,x-b}"},
	"monitors":   {"monitoring.podMonitor.enabled=true", "monitoring.podMonitor.labels.release=prom"},
	"rules":      {"monitoring.prometheusRule.enabled=true", "monitoring.prometheusRule.labels.release=prom", "monitoring.linkerdDashboards=true"},
	"prometheus": {"monitoring.prometheus.enabled=true"},
	"prometheus-values": {
		"monitoring.prometheus.enabled=true", "monitoring.linkerdDashboards=true", "monitoring.prometheus.retention=30d", "monitoring.prometheus.scrapeInterval=30s",
		"monitoring.prometheus.persistentVolumeClaim=p", "monitoring.prometheus.tolerations[0].operator=Exists", "monitoring.prometheus.extraArgs={--web.enable-lifecycle}",
		"monitoring.prometheus.alertmanagers[0].static_configs[0].targets={am:9093}", "monitoring.prometheus.remoteWrite[0].url=http://store/write",
	},
	"tracing":  {"tracing.endpoint=grpcs://collector.observability:4317", "tracing.sampling=0.5%", "tracing.caConfigMap=otlp-ca", "accessLog.to=otlp"},
	"redacted": {"tap.redactHeaders={x-secret,x-api-key}"},
	"images":   {"image.registry=r:5000/x", "image.tag=t", "image.pullPolicy=Always", "image.pullSecrets={a,b}"},
	"privileged": {
		"agent.privileged=true", "agent.nriSocketDir=", "agent.cleanupOnStop=true", "agent.drainTimeout=1m30s",
		"agent.cgroupRoot=/sys/fs/cgroup/x", "agent.nodeIPs={10.0.0.1,fd00::1}", "agent.extraArgs={--config=/x}",
	},
	"plain-security": {"agent.appArmorProfile=", "agent.seLinuxType=", "agent.nriSocketDir=/run/x"},
	"scheduling": {
		"controller.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1", "controller.tolerations[0].operator=Exists", "controller.nodeSelector.a=b",
		"controller.podLabels.l=m", "controller.podAnnotations.n=o", "agent.podLabels.l=m", "agent.podAnnotations.n=o",
		"controller.extraArgs={--a,--b}", "agent.nodeSelector.mesh=yes", "agent.updateStrategy.maxSurge=25%",
		"controller.priorityClassName=", "controller.podDisruptionBudget.maxUnavailable=2", "logLevel=debug", "agent.logLevel=warn",
		"trustDomain=example.org", "clusterDomain=cluster.example",
	},
}

// dashboards is a variant without a golden file: TestDashboards compares it with the files.
var dashboards = []string{"monitoring.dashboards.enabled=true", "monitoring.dashboards.labels.grafana_dashboard=yes", "monitoring.dashboards.annotations.grafana_folder=Underlane"}

func values(t *testing.T, sets []string) map[string]any {
	t.Helper()
	out := map[string]any{"namespace": map[string]any{"create": true}}
	for _, s := range sets {
		if name, ok := strings.CutPrefix(s, "@"); ok {
			text, err := File(name)
			if err != nil {
				t.Fatal(err)
			}
			more, err := ParseValues(text)
			if err != nil {
				t.Fatal(err)
			}
			out = Merge(out, more)
			continue
		}
		if err := Set(out, s, false); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func render(t *testing.T, values map[string]any) []Object {
	t.Helper()
	objects, err := Render(t.Context(), "underlane-system", values)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-update writes it):\n%s", file, diff)
	}
}

// The committed manifest is what the chart renders to.
func TestCommittedManifest(t *testing.T) {
	want, err := os.ReadFile("../../../../daemonset/underlane.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, manifest, _ := strings.Cut(string(want), "---\n") // after the header
	if diff := cmp.Diff("---\n"+manifest, string(YAML(render(t, values(t, nil))))); diff != "" {
		t.Errorf("make generate writes it:\n%s", diff)
	}
}

// Of each variant the golden file has the objects that differ from the default,
// and the names of those that are not there.
func TestVariants(t *testing.T) {
	plain := map[string]string{}
	for _, o := range render(t, values(t, nil)) {
		plain[o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName()] = o.Text
	}
	for name, sets := range variants {
		t.Run(name, func(t *testing.T) {
			missing := maps.Clone(plain)
			var differ []Object
			for _, o := range render(t, values(t, sets)) {
				id := o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
				if plain[id] != o.Text {
					differ = append(differ, o)
				}
				delete(missing, id)
			}
			var got bytes.Buffer
			for _, id := range slices.Sorted(maps.Keys(missing)) {
				got.WriteString("# not there: " + id + "\n")
			}
			got.Write(YAML(differ))
			golden(t, filepath.Join("testdata", name+".golden"), got.Bytes())
		})
	}
}

// Whatever is rendered is what the API server knows: no misspelt field, no
// duplicate name, no trailing blank.
func TestObjectsAreValid(t *testing.T) {
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	all := maps.Clone(variants)
	all["default"] = nil
	all["dashboards"] = dashboards
	for name, sets := range all {
		seen := map[string]bool{}
		for _, o := range render(t, values(t, sets)) {
			id := o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
			if seen[id] {
				t.Errorf("%s: %s twice", name, id)
			}
			seen[id] = true
			for line := range strings.Lines(o.Text) {
				if strings.HasSuffix(line, " \n") {
					t.Errorf("%s: %s: blank at the end of %q", name, id, line)
				}
			}
			if o.GetLabels()["app.kubernetes.io/part-of"] != "underlane" {
				t.Errorf("%s: %s lacks the label by which uninstall finds it", name, id)
			}
			if kind := o.GetKind(); kind == "APIService" || kind == "PodMonitor" || kind == "PrometheusRule" {
				continue // not in client-go's scheme
			}
			if _, _, err := decoder.Decode([]byte(o.Text), nil, nil); err != nil {
				t.Errorf("%s: %s: %v", name, id, err)
			}
		}
	}
}

// Each dashboard is a ConfigMap with the label that Grafana's sidecar looks for, and is in
// it as it is in the chart.
func TestDashboards(t *testing.T) {
	files, err := filepath.Glob("../../../../daemonset/chart/underlane/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards in the chart: %v", err)
	}
	got := map[string]string{}
	for _, o := range render(t, values(t, dashboards)) {
		if o.GetLabels()["grafana_dashboard"] != "yes" {
			continue
		}
		if o.GetAnnotations()["grafana_folder"] != "Underlane" {
			t.Errorf("%s has the annotations %v, want those of the value", o.GetName(), o.GetAnnotations())
		}
		var m struct{ Data map[string]string }
		if err := yaml.Unmarshal([]byte(o.Text), &m); err != nil {
			t.Fatal(err)
		}
		maps.Copy(got, m.Data)
	}
	want := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want["underlane-"+filepath.Base(file)] = string(text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dashboards (-files +ConfigMaps):\n%s", diff)
	}
}

// Each rule of the controller's roles has its reason beside it.
func TestRulesHaveReasons(t *testing.T) {
	rules := 0
	for _, o := range render(t, values(t, nil)) {
		if o.GetKind() != "ClusterRole" && o.GetKind() != "Role" || o.GetName() != "underlane-controller" {
			continue
		}
		previous := ""
		for line := range strings.Lines(o.Text) {
			if strings.HasPrefix(line, "  - apiGroups:") {
				rules++
				// A rule may share the reason of the one before: made by a name, then in any.
				if !strings.HasPrefix(previous, "  # ") && !strings.Contains(o.Text, line+"    resources: [leases]") && !strings.HasPrefix(previous, "    verbs:") {
					t.Errorf("%s %s: a rule without a reason after %q", o.GetKind(), o.GetName(), previous)
				}
			}
			previous = line
		}
		if strings.Contains(o.Text, `"*"`) {
			t.Errorf("%s %s: a wildcard", o.GetKind(), o.GetName())
		}
	}
	if rules < 10 {
		t.Errorf("only %d rules seen", rules)
	}
}

func TestRefusals(t *testing.T) {
	for set, want := range map[string]string{
		"nonsense=1":                        "additional properties 'nonsense' not allowed",
		"agent.nonsense=1":                  "at '/agent': additional properties 'nonsense' not allowed",
		"controller.replicas=0":             "/controller/replicas",
		"controller.replicas=two":           "got string, want integer",
		"logLevel=loud":                     "/logLevel",
		"controller.antiAffinity=sometimes": "/controller/antiAffinity",
		"agent.drainTimeout=10":             "/agent/drainTimeout",
		"agent.cgroupRoot=x":                "/agent/cgroupRoot",
		"image.pullPolicy=Sometimes":        "/image/pullPolicy",
		"trustDomain=Upper":                 "/trustDomain",
		"identity.issuer.keyPEM=x":          "/identity/issuer/keyPEM",
		"tap.enabled=yes":                   "/tap/enabled",
		"agent.updateStrategy.maxSurge=0":   "/agent/updateStrategy/maxSurge",
		// No agent would start with these.
		"accessLog.to=otlp":                        "accessLog.to: otlp needs the receiver",
		"tracing.sampling=200%":                    "/tracing/sampling",
		"policy.default=some":                      "/policy/default",
		"policy.clusterNetworks={net}":             "/policy/clusterNetworks/0",
		"tracing.sampling=1.2.3%":                  "/tracing/sampling",
		"tracing.endpoint=collector:4317":          "/tracing/endpoint",
		"tracing.endpoint=grpc://collector/v1":     "/tracing/endpoint",
		"tracing.endpoint=http://user@collector":   "/tracing/endpoint",
		"tracing.endpoint=http://collector/?key=1": "/tracing/endpoint",
	} {
		_, err := Render(t.Context(), "n", values(t, []string{set}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", set, err, want)
		}
	}
}

// TestNoSection: a section that is taken away (null) is named. Without it the templates
// would end in nil pointers.
func TestNoSection(t *testing.T) {
	for _, section := range []string{
		"image", "namespace", "identity", "identity.issuer", "controller", "controller.podDisruptionBudget", "controller.history",
		"controller.history.enabled", "controller.history.bytes", "agent", "agent.updateStrategy", "agent.podLimits", "tap", "faultInjection", "policy", "policy.default",
		"tracing", "accessLog", "monitoring", "monitoring.podMonitor", "monitoring.prometheusRule", "monitoring.dashboards", "monitoring.prometheus",
	} {
		_, err := Render(t.Context(), "n", values(t, []string{section + "=null"}))
		parts := strings.Split(section, ".")
		if want := parts[len(parts)-1]; err == nil || strings.Contains(err.Error(), "nil pointer") || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "missing") {
			t.Errorf("%s=null: %v, want that %s is missing", section, err, want)
		}
	}
}

// Values that a default is taken away from, and names that YAML reads as something else.
func TestOddValues(t *testing.T) {
	for set, want := range map[string]string{
		"monitoring.dashboards.labels.grafana_dashboard=null": "underlane-dashboard-",
		"monitoring.prometheus.persistentVolumeClaim=123":     `claimName: "123"`,
		"monitoring.prometheus.nodeSelector=null":             "name: prometheus",
		"monitoring.prometheus.scrapeInterval=null":           "name: prometheus",
		"tracing.caConfigMap=1e3":                             `name: "1e3"`,
		"tracing.sampling=0.5%":                               "--trace-sampling=0.5%",
		"tracing.sampling=100%":                               "--trace-sampling=100%",
		"tracing.endpoint=https://[fd00::1]:4318/a/b":         "--otlp-endpoint=https://[fd00::1]:4318/a/b",
	} {
		v := values(t, []string{"monitoring.dashboards.enabled=true", "monitoring.prometheus.enabled=true", "tracing.endpoint=grpc://c:4317"})
		text := !strings.HasSuffix(set, "=null")
		if err := Set(v, set, text); err != nil {
			t.Fatal(err)
		}
		objects, err := Render(t.Context(), "n", v)
		if err != nil {
			t.Errorf("%s: %v", set, err)
			continue
		}
		found := false
		for _, o := range objects {
			found = found || strings.Contains(o.Text, want)
		}
		if !found {
			t.Errorf("%s: no object has %s", set, want)
		}
	}
}

func TestIssuerTexts(t *testing.T) {
	issuer := func(more map[string]any) map[string]any {
		return Merge(map[string]any{"identity": map[string]any{"issuer": map[string]any{"trustAnchorsPEM": pem, "certificatePEM": pem}}}, map[string]any{"identity": map[string]any{"issuer": more}})
	}
	key := "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n"
	for name, bad := range map[string]map[string]any{
		"belong together": issuer(map[string]any{}),
		"not both":        issuer(map[string]any{"keyPEM": key, "existing": true}),
	} {
		if _, err := Render(t.Context(), "n", bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		}
	}
	objects := render(t, issuer(map[string]any{"keyPEM": key}))
	at := slices.IndexFunc(objects, func(o Object) bool { return o.GetKind() == "Secret" })
	if at < 0 {
		t.Fatal("no Secret")
	}
	var secret struct{ Data map[string][]byte }
	if err := yaml.Unmarshal([]byte(objects[at].Text), &secret); err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{"ca.crt": []byte(pem), "tls.crt": []byte(pem), "tls.key": []byte(key)}
	if diff := cmp.Diff(want, secret.Data); diff != "" {
		t.Error(diff)
	}
	// The controller leaves an issuer alone that is not its own.
	if text := string(YAML(objects)); !strings.Contains(text, "--identity-external-issuer") || strings.Contains(text, "resources: [secrets]\n    verbs: [create]") {
		t.Error("the controller takes a given issuer for its own")
	}
}

// Every value has a comment, and every value of the schema is in values.yaml.
func TestSchemaAndValuesAgree(t *testing.T) {
	text, err := File("values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	have, err := ParseValues(text)
	if err != nil {
		t.Fatal(err)
	}
	schemaText, err := File("values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := yaml.Unmarshal(schemaText, &schema); err != nil {
		t.Fatal(err)
	}
	var walk func(at string, schema, values map[string]any)
	walk = func(at string, schema, values map[string]any) {
		properties, _ := schema["properties"].(map[string]any)
		for name, p := range properties {
			v, ok := values[name]
			if !ok {
				if at+name != "global" {
					t.Errorf("%s%s is in the schema, not in values.yaml", at, name)
				}
				continue
			}
			if m, ok := v.(map[string]any); ok {
				walk(at+name+".", p.(map[string]any), m)
			}
		}
	}
	walk("", schema, have)
}

// The chart in a release has the release's version and runs its images, and differs in
// nothing else.
func TestReleased(t *testing.T) {
	was, channel := version.Version, version.Channel
	defer func() { version.Version, version.Channel = was, channel }()
	render := func() string {
		objects, err := Render(t.Context(), "underlane-system", nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(YAML(objects))
	}
	before := render()
	version.Version, version.Channel = "v0.2.0-edge.3", "edge"
	c, err := Load()
	if err != nil || c.Metadata.Version != "0.2.0-edge.3" || c.Metadata.AppVersion != "v0.2.0-edge.3" {
		t.Fatalf("%+v, %v", c.Metadata, err)
	}
	after := render()
	if !strings.Contains(after, "image: ghcr.io/underlane/agent:v0.2.0-edge.3\n") {
		t.Error("the agent's image is not that of the release")
	}
	if d := cmp.Diff(before, strings.ReplaceAll(after, "v0.2.0-edge.3", "0.1.0")); d != "" {
		t.Error(d)
	}
}
