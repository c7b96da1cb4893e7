package apitest

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
)

// change serves a single object: get, create, update, patch (a merge patch,
// RFC 7396) and delete.
func (s *Server) change(w http.ResponseWriter, r *http.Request, t target) {
	var body object
	if raw, err := io.ReadAll(r.Body); err != nil || len(raw) > 0 && json.Unmarshal(raw, &body) != nil {
		fail(w, http.StatusUnsupportedMediaType, "UnsupportedMediaType", "the body is not JSON")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPost {
		t.name, _ = meta(body)["name"].(string)
	}
	old, exists := s.objects[t.resource][t.key()]
	switch {
	case r.Method == http.MethodPost && exists:
		fail(w, http.StatusConflict, "AlreadyExists", t.key()+" already exists")
	case r.Method == http.MethodPost:
		m := meta(body)
		if t.namespace != "" {
			m["namespace"] = t.namespace
		}
		if m["uid"] == nil {
			m["uid"] = s.uid()
		}
		reply(w, http.StatusCreated, s.store(t, "ADDED", body))
	case !exists:
		fail(w, http.StatusNotFound, "NotFound", t.key()+" not found")
	case r.Method == http.MethodGet:
		reply(w, http.StatusOK, old)
	case r.Method == http.MethodPut:
		if v := meta(body)["resourceVersion"]; v != nil && v != "" && v != meta(old)["resourceVersion"] {
			fail(w, http.StatusConflict, "Conflict", t.key()+" has been modified")
			return
		}
		meta(body)["uid"] = meta(old)["uid"]
		reply(w, http.StatusOK, s.store(t, "MODIFIED", body))
	case r.Method == http.MethodPatch:
		if uid := meta(body)["uid"]; uid != nil && uid != meta(old)["uid"] {
			fail(w, http.StatusConflict, "Conflict", "uid in precondition does not match")
			return
		}
		if v := meta(body)["resourceVersion"]; v != nil && v != meta(old)["resourceVersion"] {
			fail(w, http.StatusConflict, "Conflict", t.key()+" has been modified")
			return
		}
		reply(w, http.StatusOK, s.store(t, "MODIFIED", merge(clone(old), body)))
	case r.Method == http.MethodDelete:
		delete(s.objects[t.resource], t.key())
		s.record(t, "DELETED", clone(old))
		reply(w, http.StatusOK, object{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	default:
		fail(w, http.StatusMethodNotAllowed, "MethodNotAllowed", r.Method)
	}
}

// store stores o and returns it. The caller holds s.mu.
func (s *Server) store(t target, kind string, o object) object {
	o["apiVersion"], o["kind"] = split(gvk(t.resource))
	if s.objects[t.resource] == nil {
		s.objects[t.resource] = map[string]object{}
	}
	s.record(t, kind, o)
	s.objects[t.resource][t.key()] = o
	return o
}

// record gives o the next version and notifies the watches. The caller holds s.mu.
func (s *Server) record(t target, kind string, o object) {
	s.version++
	meta(o)["resourceVersion"] = strconv.Itoa(s.version)
	s.history = append(s.history, event{version: s.version, resource: t.resource, kind: kind, object: o})
	close(s.changed)
	s.changed = make(chan struct{})
}

func clone(o object) object {
	raw, _ := json.Marshal(o) // it came from JSON
	var out object
	_ = json.Unmarshal(raw, &out)
	return out
}

// merge applies a merge patch to o.
func merge(o, patch object) object {
	for name, value := range patch {
		sub, isObject := value.(object)
		switch {
		case value == nil:
			delete(o, name)
		case isObject:
			below, _ := o[name].(object)
			if below == nil {
				below = object{}
			}
			o[name] = merge(below, sub)
		default:
			o[name] = value
		}
	}
	return o
}
