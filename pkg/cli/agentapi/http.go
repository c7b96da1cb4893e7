package agentapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/figures/watch"
)

// Handler answers the paths that agents can answer, without the API's prefix: figures,
// routes, resources, connections, nodes, taps and who may connect. Paths with a namespace in them are answered too,
// though everybody may ask for all. Errors are Status objects, as those of Kubernetes.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	watched := &watch.Hub{Ask: func(ctx context.Context, q tapv1alpha1.FiguresQuery) (any, error) { return a.Figures(ctx, q) }}
	for _, in := range []string{"", "/namespaces/{namespace}"} {
		mux.HandleFunc("GET "+in+"/figures", query(a.Figures))
		mux.HandleFunc("GET "+in+"/routes", query(a.Routes))
		mux.HandleFunc("GET "+in+"/resources", a.serveResources)
		mux.HandleFunc("GET "+in+"/connections", a.serveConnections)
		mux.HandleFunc("GET /watch"+in+"/figures", watchFigures(watched))
	}
	mux.HandleFunc("GET /namespaces/{namespace}/authz/"+tapv1alpha1.AuthzAccessName, func(w http.ResponseWriter, r *http.Request) {
		answer, err := a.AccessAuthz(r.Context(), r.PathValue("namespace"))
		reply(w, answer, err)
	})
	mux.HandleFunc("GET /nodes", a.serveNodes)
	mux.HandleFunc("GET /nodes/{name}/status", a.serveNode)
	mux.HandleFunc("GET /watch/tap", a.serveTap)
	mux.HandleFunc("GET /watch/namespaces/{namespace}/tap", a.serveTap)
	mux.HandleFunc("GET /watch/namespaces/{namespace}/{kind}/{name}/tap", a.serveTap)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "agents cannot answer "+r.URL.Path)
	})
	return mux
}

// query answers questions for figures.
func query[A any](ask func(context.Context, tapv1alpha1.FiguresQuery) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := tapv1alpha1.ParseFigures(r.URL.Query())
		if err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
		q.Namespace = cmp.Or(r.PathValue("namespace"), q.Namespace)
		answer, err := ask(r.Context(), q)
		reply(w, answer, err)
	}
}

// watchFigures streams figures, of which all browsers that ask the same get the same
// answers. They are all of the one user who may reach the socket.
func watchFigures(hub *watch.Hub) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := tapv1alpha1.ParseFigures(r.URL.Query())
		q.Namespace = cmp.Or(r.PathValue("namespace"), q.Namespace)
		if err == nil {
			_, err = table.Request(&q, time.Now()) // is it a question?
		}
		var every time.Duration
		if err == nil {
			q, every, err = watch.Query(q, r.URL.Query().Has("window"))
		}
		code := http.StatusBadRequest
		if err == nil {
			code, err = http.StatusTooManyRequests, hub.Serve(w, r, "", q, every)
		}
		if err != nil {
			refuse(w, code, err.Error())
		}
	}
}

// reply writes an answer, or the error instead of it.
func reply(w http.ResponseWriter, answer any, err error) {
	var bad *badRequest
	switch {
	case errors.As(err, &bad):
		refuse(w, http.StatusBadRequest, err.Error())
	case err != nil:
		refuse(w, http.StatusServiceUnavailable, err.Error())
	default:
		write(w, answer)
	}
}

func (a *API) serveNodes(w http.ResponseWriter, r *http.Request) {
	list := tapv1alpha1.NodeList{Kind: "AgentList", APIVersion: tapv1alpha1.GroupVersion, Items: []tapv1alpha1.Node{}}
	statuses, errs := each(r.Context(), a.Agents, func(ctx context.Context, c Client) (*agentv1.StatusResponse, error) {
		return c.Status(ctx, &agentv1.StatusRequest{})
	})
	for i, st := range statuses {
		item := tapv1alpha1.Node{Metadata: tapv1alpha1.Meta{Name: cmp.Or(a.Agents[i].Node, st.GetNode(), "this node")}}
		err := errs[i]
		if err == nil {
			item.Status, err = protojson.Marshal(st)
		}
		if err != nil {
			item.Error = err.Error()
		}
		list.Items = append(list.Items, item)
	}
	write(w, list)
}

func (a *API) serveNode(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	for _, agent := range a.Agents {
		if agent.Node != name && agent.Node != "" {
			continue
		}
		statuses, errs := each(r.Context(), []Agent{agent}, func(ctx context.Context, c Client) (*agentv1.StatusResponse, error) {
			return c.Status(ctx, &agentv1.StatusRequest{})
		})
		if errs[0] != nil {
			refuse(w, http.StatusBadGateway, errs[0].Error())
			return
		}
		if statuses[0].GetNode() != name {
			continue
		}
		data, err := protojson.Marshal(statuses[0])
		if err != nil {
			refuse(w, http.StatusInternalServerError, err.Error())
			return
		}
		write(w, json.RawMessage(data))
		return
	}
	refuse(w, http.StatusNotFound, "there is no node "+name)
}

func write(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// refuse answers with a Status, as Kubernetes does.
func refuse(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
		"reason": strings.ReplaceAll(http.StatusText(code), " ", ""), "message": message,
	})
}
