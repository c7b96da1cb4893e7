package tapapi

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	authorizationv1 "k8s.io/api/authorization/v1"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/test/fakeagent"
)

// uses is what an agent says of a pod.
func uses(w *mesh.Workload, cpu float64, memory uint64, expires time.Time) *agentv1.PodResource {
	return &agentv1.PodResource{
		Uid: w.UID, Namespace: w.Namespace, Name: w.Name, OwnerKind: w.OwnerKind, OwnerName: w.OwnerName,
		Containers: &agentv1.ContainerUsage{
			Known: 15, Cpu: cpu, CpuLimit: 1, Throttled: cpu / 10, Memory: memory, MemoryLimit: 100, OomKills: 1,
			CpuPressure: &agentv1.ResourcePressure{Avg10: 10 * cpu},
		},
		Mesh:               &agentv1.MeshUsage{Cpu: cpu / 100, Connections: 3, Buffered: 5},
		CertificateExpires: timestamppb.New(expires),
	}
}

// list asks as user for path, and reads the answer into out. It returns the status and the text.
func (w *world) list(user, path string, out any) (int, string) {
	w.t.Helper()
	code, text := w.body(user, path)
	if code == http.StatusOK {
		if err := json.Unmarshal([]byte(text), out); err != nil {
			w.t.Fatal(err)
		}
	}
	return code, text
}

func useText(i *tapv1alpha1.ResourceItem) string {
	text := fmt.Sprintf("%s %s/%s %d/%d/%d", i.Kind, i.Namespace, i.Name, i.Ready, i.Meshed, i.Pods)
	if u := i.Usage; u != nil && u.CPU != nil && u.Memory != nil {
		text += fmt.Sprintf(" cpu %.1f of %.0f throttled %.2f memory %d of %d kills %d", *u.CPU, u.CPULimit, u.Throttled, *u.Memory, u.MemoryLimit, u.OOMKills)
		if u.PSI != nil {
			text += fmt.Sprintf(" psi %.0f", u.PSI.CPU)
		}
	}
	if m := i.Mesh; m != nil {
		text += fmt.Sprintf(" mesh %.3f %d %d", m.CPU, m.Connections, m.Memory)
	}
	if c := i.Certificate; c != nil {
		text += " expires " + c.Expires.Format("15:04")
	}
	if i.Partial {
		text += " partial"
	}
	return text
}

// usedCluster is a cluster of two nodes: web has a pod on each, db one on b.
func usedCluster(t *testing.T) (w *world, a, b *fakeagent.Agent) {
	w = newWorld(t)
	a, b = w.agent("a"), w.agent("b")
	db := b.Workload("data", "db-1", "db")
	w.workloads = append(w.workloads, db)
	w.services = []*mesh.Service{{Namespace: "shop", Name: "web-svc", Ports: []mesh.ServicePort{
		{Endpoints: []mesh.Endpoint{{WorkloadUID: "shop/web-a"}, {WorkloadUID: "shop/web-b"}}},
		{Endpoints: []mesh.Endpoint{{WorkloadUID: "shop/web-a"}, {WorkloadUID: "gone"}}},
	}}}
	at := time.Date(2027, 1, 1, 9, 0, 0, 0, time.UTC)
	a.Uses.Pods = []*agentv1.PodResource{uses(w.workloads[0], 0.5, 40, at)}
	b.Uses.Pods = []*agentv1.PodResource{uses(w.workloads[1], 1, 60, at.Add(-time.Hour)), uses(db, 2, 10, at)}
	return w, a, b
}

const (
	webUses = "deployment shop/web 2/2/2 cpu 1.5 of 2 throttled 0.10 memory 100 of 200 kills 2 psi 10 mesh 0.015 6 10 expires 08:00"
	dbUses  = "deployment data/db 1/1/1 cpu 2.0 of 1 throttled 0.20 memory 10 of 100 kills 1 psi 20 mesh 0.020 3 5 expires 09:00"
	podA    = "pod shop/web-a 1/1/1 cpu 0.5 of 1 throttled 0.05 memory 40 of 100 kills 1 psi 5 mesh 0.005 3 5 expires 09:00"
	podB    = "pod shop/web-b 1/1/1 cpu 1.0 of 1 throttled 0.10 memory 60 of 100 kills 1 psi 10 mesh 0.010 3 5 expires 08:00"
)

func TestResources(t *testing.T) {
	w, _, _ := usedCluster(t)
	for _, tc := range []struct {
		namespace, query string
		want             []string
	}{
		{"", "", []string{dbUses, webUses}},
		{"shop", "", []string{webUses}},
		{"", "kind=deploy&name=db", []string{dbUses}},
		{"", "kind=sts", nil},
		{"shop", "kind=pod", []string{podA, podB}},
		{"", "kind=po&owner=web", []string{podA, podB}},
		{"", "kind=pod&name=web-b", []string{podB}},
		{"shop", "kind=services", []string{"service shop/web-svc 2/2/2"}},
		{"shop", "kind=ns", []string{strings.Replace(strings.Replace(webUses, "deployment shop/web", "namespace /shop", 1), " expires 08:00", "", 1)}},
		{"nowhere", "", nil},
	} {
		var list tapv1alpha1.ResourceList
		code, text := w.list("root", tapv1alpha1.ResourcesPath(tc.namespace)+"?"+tc.query, &list)
		var got []string
		for i := range list.Items {
			if list.Items[i].ID != i {
				t.Errorf("item %d has the id %d", i, list.Items[i].ID)
			}
			got = append(got, useText(&list.Items[i]))
		}
		if diff := cmp.Diff(tc.want, got); diff != "" || code != http.StatusOK || len(list.Warnings) > 0 {
			t.Errorf("%s?%s: %d %q, %s (-want +got):\n%s", tc.namespace, tc.query, code, list.Warnings, text, diff)
		}
	}
	for _, bad := range []string{"kind=web", "knid=pod", "namespace=data"} {
		if code, text := w.body("root", tapv1alpha1.ResourcesPath("shop")+"?"+bad); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s, want 400", bad, code, text)
		}
	}
}

// TestSettings: a workload has the settings of its pods, as their agents have them, and those
// that differ. One that lies can say little.
func TestSettings(t *testing.T) {
	w, a, b := usedCluster(t)
	setting := func(name, value string) *agentv1.PodSetting {
		return &agentv1.PodSetting{Name: name, Value: value}
	}
	a.Uses.Pods[0].Settings = []*agentv1.PodSetting{setting("policy", "allow"), setting("fail-mode", "open")}
	b.Uses.Pods[0].Settings = []*agentv1.PodSetting{setting("policy", "strict"), setting("policy", "again"), setting("fail-mode", "open"), setting("opaque-ports", "25")}
	lies := []*agentv1.PodSetting{setting("policy", strings.Repeat("x", 1000))}
	for i := range 1000 {
		lies = append(lies, setting(fmt.Sprint("name-", i), "x"))
	}
	b.Uses.Pods[1].Settings = lies
	var list tapv1alpha1.ResourceList
	if code, text := w.list("root", tapv1alpha1.ResourcesPath(""), &list); code != http.StatusOK || len(list.Items) != 2 {
		t.Fatalf("%d %s, want db and web", code, text)
	}
	want := []tapv1alpha1.Setting{
		{Name: "policy", Values: []string{"allow", "strict"}},
		{Name: "fail-mode", Values: []string{"open"}},
		{Name: "opaque-ports", Values: []string{"25", tapv1alpha1.NotSet}},
	}
	if diff := cmp.Diff(want, list.Items[1].Settings); diff != "" {
		t.Errorf("web (-want +got):\n%s", diff)
	}
	if n := len(list.Items[0].Settings); n != 16 {
		t.Errorf("%d settings of an agent that lies, want 16", n)
	}
	list = tapv1alpha1.ResourceList{}
	if w.list("root", tapv1alpha1.ResourcesPath("shop")+"?kind=svc", &list); len(list.Items) != 1 || list.Items[0].Settings != nil {
		t.Errorf("%+v, want a Service without settings", list.Items)
	}
}

// An agent that hangs, is away or lies costs its own rows only.
func TestResourcesOfBadAgents(t *testing.T) {
	w, _, b := usedCluster(t)
	ask := func(want ...string) (list tapv1alpha1.ResourceList) {
		t.Helper()
		code, text := w.list("root", tapv1alpha1.ResourcesPath("")+"?kind=pod", &list)
		var got []string
		for i := range list.Items {
			got = append(got, useText(&list.Items[i]))
		}
		if diff := cmp.Diff(want, got); diff != "" || code != http.StatusOK {
			t.Errorf("%d %s (-want +got):\n%s", code, text, diff)
		}
		return list
	}
	podDB := strings.Replace(dbUses, "deployment data/db", "pod data/db-1", 1)
	ask(podDB, podA, podB)

	// b speaks of a pod of node a, says what is no number, and says it twice.
	lie := uses(w.workloads[0], 1000, 1, time.Now())
	crazy := uses(w.workloads[1], math.NaN(), math.MaxUint64, time.Now())
	crazy.Containers.Throttled, crazy.Containers.CpuPressure.Avg10, crazy.Containers.CpuLimit = math.Inf(1), -5, math.Inf(-1)
	crazy.CertificateExpires = &timestamppb.Timestamp{Seconds: math.MaxInt64}
	crazy.Mesh = nil
	well := b.Uses.Pods
	b.Uses.Pods = []*agentv1.PodResource{lie, crazy, b.Uses.Pods[0], b.Uses.Pods[1], {Uid: "no such pod"}}
	list := ask(podDB, podA, fmt.Sprintf("pod shop/web-b 1/1/1 cpu 0.0 of 0 throttled 1.00 memory %d of 100 kills 1 psi 0", uint64(1<<50)))
	if len(list.Warnings) != 1 || !strings.Contains(list.Warnings[0], "not believed") {
		t.Errorf("warnings %q, want one about what is not believed", list.Warnings)
	}
	b.Uses.Pods = well

	b.Hangs.Store(true)
	began := time.Now()
	list = ask("pod data/db-1 1/1/1 partial", podA, "pod shop/web-b 1/1/1 partial")
	if list.Nodes != (tapv1alpha1.Nodes{Asked: 2, Answered: 1}) || len(list.Warnings) != 1 || !strings.Contains(list.Warnings[0], "b: ") {
		t.Errorf("%+v %q, want 1 of 2, and a warning about b", list.Nodes, list.Warnings)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the answer took %v, want the limit of one agent", took)
	}
	b.Hangs.Store(false)
	b.Stop()
	ask("pod data/db-1 1/1/1 partial", podA, "pod shop/web-b 1/1/1 partial")
}

// A user sees the namespaces that RBAC allows, and an agent's question costs nothing else.
func TestResourcesRights(t *testing.T) {
	w, _, _ := usedCluster(t)
	w.kube.Allow = func(review authorizationv1.SubjectAccessReviewSpec) bool {
		a := review.ResourceAttributes
		return review.User == "dev" && a.Namespace == "shop" && a.Verb == "list" && (a.Resource == "resources" || a.Resource == "connections")
	}
	for path, want := range map[string]int{
		tapv1alpha1.ResourcesPath("shop"): http.StatusOK, tapv1alpha1.ConnectionsPath("shop"): http.StatusOK,
		tapv1alpha1.ResourcesPath("data"): http.StatusForbidden, tapv1alpha1.ConnectionsPath("data"): http.StatusForbidden,
		tapv1alpha1.ResourcesPath(""): http.StatusForbidden, tapv1alpha1.ConnectionsPath(""): http.StatusForbidden,
		tapv1alpha1.ResourcesPath("shop") + "?namespace=data":      http.StatusBadRequest,
		tapv1alpha1.ConnectionsPath("shop") + "?namespace=data":    http.StatusBadRequest,
		tapv1alpha1.ConnectionsPath("shop") + "?kind=ns&name=data": http.StatusBadRequest,
		tapv1alpha1.FiguresPath("shop"):                            http.StatusForbidden,
	} {
		if code, text := w.body("dev", path); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, text, want)
		}
	}
	w.server.asked.Add(maxAsked)
	defer w.server.asked.Add(-maxAsked)
	for _, path := range []string{tapv1alpha1.ResourcesPath("shop"), tapv1alpha1.ConnectionsPath("shop")} {
		if code, text := w.body("dev", path); code != http.StatusTooManyRequests {
			t.Errorf("%s while many ask: %d %s, want 429", path, code, text)
		}
	}
}
