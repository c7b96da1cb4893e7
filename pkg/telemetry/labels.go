package telemetry

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// owner has the fields of a workload that become labels.
type owner struct{ namespace, kind, name, pod string }

func ownerOf(w *mesh.Workload) owner {
	if w == nil {
		return owner{}
	}
	return owner{w.Namespace, w.OwnerKind, w.OwnerName, w.Name}
}

// target identifies the series of requests and connections. The labels have
// Linkerd's meaning: namespace, deployment, pod and so on are the workload at the
// proxy's side (outbound the client, inbound the server). dst_… is the destination
// of an outbound request. client_id is set for inbound series, server_id for
// outbound ones.
type target struct {
	direction mesh.Direction
	tls       string
	peer      mesh.Identity // client_id, server_id
	own, dst  owner
	// The authority label of an outbound request is its apex service. Otherwise it
	// is authority, the value in the request. The client chooses that value, so this
	// label is the one that is folded.
	service, serviceNamespace string
	authority                 string
}

const foldedAuthority = "other"

// targetOf returns the target of an event for one direction.
func targetOf(e *tap.Event, direction mesh.Direction) target {
	t := target{direction: direction, tls: e.TLS}
	if direction == mesh.Inbound {
		t.own, t.peer = ownerOf(e.Destination.Workload), e.Source.Identity
		return t
	}
	t.own, t.dst, t.peer = ownerOf(e.Source.Workload), ownerOf(e.Destination.Workload), e.Destination.Identity
	if e.Service != nil {
		t.service, t.serviceNamespace = e.Service.Name, e.Service.Namespace
	} else {
		t.authority = e.Authority
	}
	return t
}

func (t target) fold() target {
	if t.authority != "" {
		t.authority = foldedAuthority
	}
	return t
}

// labels returns the labels that have a value.
func (t target) labels(clusterDomain string) prometheus.Labels {
	l := prometheus.Labels{}
	set(l, "direction", t.direction.String())
	set(l, "tls", t.tls)
	if t.direction == mesh.Inbound {
		set(l, "client_id", t.peer.String())
	} else {
		set(l, "server_id", t.peer.String())
	}
	t.own.labels(l, "")
	t.dst.labels(l, "dst_")
	if t.service != "" {
		set(l, "dst_service", t.service)
		set(l, "dst_namespace", t.serviceNamespace)
		set(l, "authority", t.service+"."+t.serviceNamespace+".svc."+clusterDomain)
	} else {
		set(l, "authority", t.authority)
	}
	return l
}

func (o owner) labels(l prometheus.Labels, prefix string) {
	set(l, prefix+"namespace", o.namespace)
	set(l, prefix+"pod", o.pod)
	if label := ownerLabels[o.kind]; label != "" {
		set(l, prefix+label, o.name)
	}
}

// ownerLabels maps the kind of an owner to its label. An owner of another kind gets
// no label, because its name may not be a valid label name.
var ownerLabels = map[string]string{
	"deployment": "deployment", "statefulset": "statefulset", "daemonset": "daemonset",
	"replicaset": "replicaset", "job": "k8s_job", "cronjob": "k8s_cronjob",
}

func set(l prometheus.Labels, name, value string) {
	if value != "" {
		l[name] = strings.ToValidUTF8(value, "\uFFFD")
	}
}

// response identifies the series of response_total and response_latency_ms.
type response struct {
	target
	status     int
	grpcStatus int // -1 for a response that is not gRPC
	success    bool
	reason     mesh.Reason
}

func responseOf(e *tap.Event, direction mesh.Direction) response {
	r := response{target: targetOf(e, direction), status: e.Status, grpcStatus: -1, success: e.Success(), reason: e.Reason}
	if e.GRPC {
		r.grpcStatus = e.GRPCStatus
	}
	return r
}

func shortResponse(e *tap.Event, direction mesh.Direction) short {
	k, ok := shortOf(e, direction)
	if !ok {
		return k
	}
	k.status, k.grpcStatus, k.success, k.reason = e.Status, -1, e.Success(), e.Reason
	if e.GRPC {
		k.grpcStatus = e.GRPCStatus
	}
	return k
}

func (r response) fold() response {
	r.target = r.target.fold()
	return r
}

func (r response) labels(clusterDomain string) prometheus.Labels {
	l := r.target.labels(clusterDomain)
	if r.status != 0 {
		l["status_code"] = strconv.Itoa(r.status)
	}
	if r.grpcStatus >= 0 {
		l["grpc_status_code"] = strconv.Itoa(r.grpcStatus)
	}
	l["classification"] = classification(r.success)
	set(l, "reason", r.reason.String())
	return l
}

func classification(success bool) string {
	if success {
		return "success"
	}
	return "failure"
}
