package cluster

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
)

// apiServer serves the objects of an installation whose pods have the image tags, and
// writes down what would change something.
type apiServer struct {
	controller, agent string
	writes            []string
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const core, apps = "/api/v1/namespaces/underlane-system/", "/apis/apps/v1/namespaces/underlane-system/"
	if r.Method != http.MethodGet {
		a.writes = append(a.writes, r.Method+" "+r.URL.Path)
	}
	var answer any
	switch r.URL.Path {
	case core + "configmaps/" + installation.Config:
		answer = corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}}
	case core + "pods":
		answer = corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, Items: []corev1.Pod{
			ownPod(installation.Controller, a.controller), ownPod(installation.Agent, a.agent),
		}}
	case apps + "deployments/" + installation.Controller:
		answer = appsv1.Deployment{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}}
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		answer = metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func ownPod(name, tag string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{installation.NameLabel: name, installation.PartOfLabel: installation.PartOf}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Image: "mirror.example:5000/underlane/x:" + tag + "@sha256:00"}}},
	}
}

// The command line refuses to skip a version, whether it prints or applies; it says why and
// what would do it all the same, and changes nothing.
func TestUpgradeRefuses(t *testing.T) {
	was := version.Version
	defer func() { version.Version = was }()
	for _, c := range []struct{ controller, agent, to, want string }{
		{"v0.2.0", "v0.2.0", "v0.3.1", ""},
		{"v0.3.0-edge.2", "v0.3.0-edge.2", "v0.3.0", ""},
		{"v0.2.4", "v0.2.4", "v0.2.1", ""}, // a patch back
		{"v0.3.0", "v0.3.0", "v0.2.4", ""},
		{"v0.1.0", "v0.1.0", "v0.3.0", "v0.1.0 to v0.3.0 skips v0.2: upgrade to the newest of that first"},
		{"0.1.0", "0.1.0", "v0.3.0-edge.1", "v0.1.0 to v0.3.0-edge.1 skips v0.2"},
		{"v0.3.0", "v0.1.0", "v0.3.0", "v0.1.0 to v0.3.0 skips v0.2"}, // agents were left behind
		{"v0.1.0", "v0.3.0", "v0.3.0", "v0.1.0 to v0.3.0 skips v0.2"},
		{"v0.4.0", "v0.4.0", "v0.2.0", "v0.4.0 back to v0.2.0 skips v0.3: go back to that first"},
		{"v0.9.0", "v0.9.0", "v1.0.0", "another major version, whose notes say how"},
		{"v1.0.0", "v1.0.0", "v0.9.0", "another major version, whose notes say how"},
	} {
		version.Version = c.to
		for _, args := range [][]string{{"upgrade"}, {"upgrade", "--apply", "--wait", "0"}, {"upgrade", "--allow-skip"}} {
			api := &apiServer{controller: c.controller, agent: c.agent}
			server := httptest.NewServer(api)
			out, _, err := execute(t, "", append(args, "--kubeconfig", kubeconfig(t, server.URL, "token"))...)
			server.Close()
			what := c.controller + ", " + c.agent + " to " + c.to + ": " + strings.Join(args, " ")
			if c.want == "" || args[len(args)-1] == "--allow-skip" {
				// Nothing is applied to this API server, which knows no kinds.
				if args[1:] == nil && (err != nil || !strings.Contains(out, "/agent:"+c.to+"\n")) {
					t.Errorf("%s: %v", what, err)
				}
				if err != nil && strings.Contains(err.Error(), "--allow-skip") {
					t.Errorf("%s: refused: %v", what, err)
				}
				continue
			}
			if err == nil || out != "" || len(api.writes) > 0 {
				t.Errorf("%s: no error, or something was done: %v, %d bytes printed, %v", what, err, len(out), api.writes)
				continue
			}
			for _, want := range []string{c.want, "docs/versions.md", "--allow-skip"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v, want %q", what, err, want)
				}
			}
		}
	}
}
