package health

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
)

// reached is the cluster of a checker.
type reached struct{ *checker }

func (reached) SystemNamespace() string { return installation.DefaultNamespace }
func (r reached) Clients() (kubernetes.Interface, dynamic.Interface, error) {
	return r.connect()
}

func (r reached) NodeStatuses(ctx context.Context) (map[string]*agentv1.StatusResponse, map[string]error) {
	return r.statuses(ctx)
}

// The dashboard has the same checks as `underlane check --proxy`, with what is wrong.
func TestHandler(t *testing.T) {
	s := well(t)
	s.silent = map[string]error{"b": errors.New("it does not answer")}
	w := httptest.NewRecorder()
	Handler(reached{s.checker()}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/check", nil))
	var got check.Answer
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %v: %s", w.Code, err, w.Body)
	}
	var names, want []string
	wrong := ""
	for _, c := range got.Categories {
		names = append(names, c.Name)
		for _, one := range c.Checks {
			if one.Result != "ok" {
				wrong += one.Result + " " + one.Description + ": " + one.Message + "\n"
			}
		}
	}
	c := s.checker()
	for _, category := range append(c.installation(), c.dataPlane()...) {
		want = append(want, category.Name)
	}
	if !slices.Equal(names, want) || got.Success || got.Kind != "Check" || !strings.Contains(wrong, "it does not answer") {
		t.Errorf("categories %q, want %q; success %v; wrong:\n%swant an error of the agent of b", names, want, got.Success, wrong)
	}
}
