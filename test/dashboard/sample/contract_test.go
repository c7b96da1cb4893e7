package sample

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// What is generated has the form of the API: the front end is tested with nothing else.
func TestFormOfTheAPI(t *testing.T) {
	w := New(Options{Seed: 1, Workloads: 50, Hostile: true, Young: true})
	for path, into := range map[string]any{
		"/figures?by=workload&window=5m&step=10&buckets=true":   &tapv1alpha1.Figures{},
		"/figures?by=namespace&window=1h&step=60":               &tapv1alpha1.Figures{},
		"/figures?namespace=emojivoto&kind=deployment&name=web": &tapv1alpha1.Figures{},
		"/figures?by=workload&side=destination&window=5m":       &tapv1alpha1.Figures{},
		"/figures?by=workload&window=6h&step=300":               &tapv1alpha1.Figures{},
		"/resources":                    &tapv1alpha1.ResourceList{},
		"/resources?kind=pod":           &tapv1alpha1.ResourceList{},
		"/connections?namespace=shop":   &tapv1alpha1.ConnectionList{},
		"/routes":                       &tapv1alpha1.RouteList{},
		"/nodes":                        &tapv1alpha1.NodeList{},
		"/namespaces/shop/authz/access": &tapv1alpha1.AuthzAccess{},
	} {
		recorder := httptest.NewRecorder()
		w.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		decoder := json.NewDecoder(strings.NewReader(recorder.Body.String()))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(into); err != nil {
			t.Errorf("%s: %v, want nothing but what the API has", path, err)
		}
	}
}
