package cluster

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli"
)

// proxy returns a handler that passes requests on to the mesh's API group with the user's
// credentials. Of a request it passes on the path, the query and Accept. It passes a
// stream on as it comes.
func (c *Flags) proxy() (http.Handler, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("credentials for the cluster: %w", err)
	}
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("address of the API server: %w", err)
	}
	server = server.JoinPath("/") // what is joined to no path at all has no slash in front
	proxy := &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1, ModifyResponse: modifyResponse,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL = server.JoinPath(tapv1alpha1.Prefix, r.In.URL.EscapedPath())
			r.Out.URL.RawQuery = r.In.URL.RawQuery
			r.Out.Host = ""
			r.Out.Header = http.Header{"Accept": r.In.Header["Accept"]}
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				refuse(w, http.StatusBadGateway, "BadGateway", reachable(err).Error())
			}
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "the dashboard only reads: use GET")
		case !withinGroup(r.URL):
			refuse(w, http.StatusBadRequest, "BadRequest", "this path leads out of the API "+tapv1alpha1.GroupVersion)
		default:
			proxy.ServeHTTP(w, r)
		}
	}), nil
}

// withinGroup reports whether a path below the group's stays below it, however the API
// server and what is before it read it: it has no empty part, none of dots, and no slash
// or per cent sign within a part. Names of Kubernetes have none of these.
func withinGroup(u *url.URL) bool {
	path, rooted := strings.CutPrefix(u.EscapedPath(), "/")
	if !rooted {
		return false
	}
	for part := range strings.SplitSeq(path, "/") {
		name, err := url.PathUnescape(part)
		if err != nil || name == "" || name == "." || name == ".." || strings.ContainsAny(name, `/\%?#`) {
			return false
		}
	}
	return true
}

// maxError bounds an error's text.
const maxError = 1 << 20

// modifyResponse keeps of a response what the dashboard reads, and explains errors.
func modifyResponse(r *http.Response) error {
	kept := http.Header{}
	for _, name := range []string{"Content-Type", "Content-Length", "Retry-After"} {
		if value := r.Header.Get(name); value != "" {
			kept.Set(name, value)
		}
	}
	r.Header = kept
	if r.StatusCode < 300 {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, maxError))
	_ = r.Body.Close()
	if err != nil {
		return fmt.Errorf("the API server's answer broke off: %w", err)
	}
	status := explainStatus(r.StatusCode, text)
	body, err := json.Marshal(status)
	if err != nil {
		return err
	}
	r.StatusCode, r.Status = int(status.Code), ""
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

// explainStatus returns a refusal as a Status, with what to do in its message. The API
// server writes some refusals as plain text.
func explainStatus(code int, text []byte) *metav1.Status {
	status := &metav1.Status{}
	if json.Unmarshal(text, status) != nil || status.Kind != "Status" || status.Code == 0 {
		status = &apierrors.NewGenericServerResponse(code, "get", schema.GroupResource{}, "", strings.TrimSpace(string(text)), 0, true).ErrStatus
		if code < 400 {
			status.Code, status.Message = http.StatusBadGateway, fmt.Sprintf("the API server sends the dashboard elsewhere (%d): check the server's address in the kubeconfig", code)
		}
	}
	status.Kind, status.APIVersion = "Status", "v1"
	if status.Code == http.StatusUnauthorized {
		status.Message = "the API server does not accept your credentials any more: log in to the cluster again"
		return status
	}
	before := status.Message
	status.Message = explain(&apierrors.StatusError{ErrStatus: *status}).Error()
	if status.Code == http.StatusNotFound && status.Message != before {
		// Not one answer is missing, but the whole API.
		status.Code, status.Reason = http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable
	}
	return status
}

// reachable adds to an error of a request that had no answer what to do about it.
func reachable(err error) error {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &authority), errors.As(err, &host), errors.As(err, &invalid):
		return fmt.Errorf("the certificate of the API server is not accepted: check server and certificate-authority-data of this context in the kubeconfig: %w", err)
	case cli.Refused(err):
		return fmt.Errorf("nothing listens at the API server's address: is the cluster up, and the kubeconfig's context the right one? %w", err)
	}
	return err
}

// refuse answers with a Status, as the API server does.
func refuse(w http.ResponseWriter, code int32, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(code))
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: code, Reason: reason, Message: message,
	})
}
