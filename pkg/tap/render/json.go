package render

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// jsonEvent has Linkerd's keys first, in Linkerd's spelling, and then our own.
type jsonEvent struct {
	Source            jsonPeer          `json:"source"`
	Destination       jsonPeer          `json:"destination"`
	RouteMeta         map[string]string `json:"routeMeta"`
	ProxyDirection    string            `json:"proxyDirection"` // INBOUND, OUTBOUND
	RequestInitEvent  *jsonRequestInit  `json:"requestInitEvent,omitempty"`
	ResponseInitEvent *jsonResponseInit `json:"responseInitEvent,omitempty"`
	ResponseEndEvent  *jsonResponseEnd  `json:"responseEndEvent,omitempty"`

	ConnOpenEvent  *jsonConnOpen  `json:"connOpenEvent,omitempty"`
	ConnCloseEvent *jsonConnClose `json:"connCloseEvent,omitempty"`
	Time           time.Time      `json:"time"`
	Origin         string         `json:"origin"` // proxy, kernel
	TLS            string         `json:"tls"`
	Protocol       string         `json:"protocol,omitempty"`
	SNI            string         `json:"sni,omitempty"`
	DNSName        string         `json:"dnsName,omitempty"` // what the client's resolver has said: no name that the client has sent
	Reason         string         `json:"reason,omitempty"`
	ReasonText     string         `json:"reasonText,omitempty"`
	Policy         *jsonPolicy    `json:"policy,omitempty"`
}

// jsonPolicy is what the authorization policies of the server have decided.
type jsonPolicy struct {
	Verdict   string `json:"verdict"` // allowed, denied, audited
	Why       string `json:"why"`
	Object    string `json:"object,omitempty"` // KIND.GROUP NAMESPACE/NAME
	Rule      string `json:"rule,omitempty"`
	Audit     string `json:"audit,omitempty"`
	WouldDeny string `json:"wouldDeny,omitempty"`
	Failed    string `json:"failed,omitempty"` // which expression could not be evaluated, and why
}

func policyJSON(e *tap.Event) *jsonPolicy {
	if e.Judged == nil {
		return nil
	}
	f := e.Judged.Finding
	return &jsonPolicy{f.Verdict(), f.Why.String(), f.Object, f.Rule, f.Audit, f.WouldDeny, f.Failed}
}

type jsonPeer struct {
	IP       string            `json:"ip"`
	Port     uint16            `json:"port"`
	Metadata map[string]string `json:"metadata"`
}

type jsonID struct {
	Base   uint32 `json:"base"`
	Stream uint64 `json:"stream"`
}

// jsonDuration has the form of a protobuf Duration in Linkerd's output.
type jsonDuration struct {
	Seconds int64 `json:"seconds,omitempty"`
	Nanos   int32 `json:"nanos,omitempty"`
}

type jsonRequestInit struct {
	ID        jsonID `json:"id"`
	Method    string `json:"method"`
	Scheme    string `json:"scheme"`
	Authority string `json:"authority"`
	Path      string `json:"path"`
	jsonHeaders
}

type jsonResponseInit struct {
	ID               jsonID       `json:"id"`
	SinceRequestInit jsonDuration `json:"sinceRequestInit"`
	HTTPStatus       int          `json:"httpStatus"`
	jsonHeaders
}

// jsonResponseEnd repeats the request, so that a program need not join events.
type jsonResponseEnd struct {
	ID                jsonID       `json:"id"`
	SinceRequestInit  jsonDuration `json:"sinceRequestInit"`
	SinceResponseInit jsonDuration `json:"sinceResponseInit"`
	ResponseBytes     uint64       `json:"responseBytes"`
	Trailers          []jsonHeader `json:"trailers"`
	TrailersCut       bool         `json:"trailersCut,omitempty"`
	GRPCStatusCode    int          `json:"grpcStatusCode"`
	ResetErrorCode    uint32       `json:"resetErrorCode,omitempty"`

	Split        *jsonSplit    `json:"split,omitempty"`
	Asked        *jsonDuration `json:"asked,omitempty"` // an external authorizer, for so long; a part of split.queue
	GRPC         bool          `json:"grpc"`
	Retries      int           `json:"retries,omitempty"`
	Reset        bool          `json:"reset,omitempty"`
	RequestBytes uint64        `json:"requestBytes"`
	Method       string        `json:"method"`
	Authority    string        `json:"authority"`
	Path         string        `json:"path"`
	HTTPStatus   int           `json:"httpStatus"`
	Success      bool          `json:"success"`
}

// jsonSplit says where the time went. Its parts add up to sinceRequestInit; of a connection
// they are the time before it was open, but for firstByte, which begins then.
type jsonSplit struct {
	Queue     jsonDuration `json:"queue"` // in the proxy
	Connect   jsonDuration `json:"connect"`
	TLS       jsonDuration `json:"tls"`
	FirstByte jsonDuration `json:"firstByte"` // from the end of the request to the response's head
	Body      jsonDuration `json:"body"`
}

func splitJSON(s tap.Split) *jsonSplit {
	if s == (tap.Split{}) {
		return nil
	}
	return &jsonSplit{durationJSON(s.Queue), durationJSON(s.Connect), durationJSON(s.TLS), durationJSON(s.FirstByte), durationJSON(s.Body)}
}

func askedJSON(d time.Duration) *jsonDuration {
	if d == 0 {
		return nil
	}
	out := durationJSON(d)
	return &out
}

type jsonConnOpen struct {
	ID      jsonID `json:"id"`
	Leg     string `json:"leg,omitempty"` // client, server: a connection of the agent that carries requests
	Process string `json:"process,omitempty"`

	Split *jsonSplit `json:"split,omitempty"`
}

type jsonConnClose struct {
	ID            jsonID       `json:"id"`
	Leg           string       `json:"leg,omitempty"`
	Event         string       `json:"event"` // close, refused, reset, denied, unreachable, failed
	Duration      jsonDuration `json:"duration"`
	SentBytes     uint64       `json:"sentBytes"`
	ReceivedBytes uint64       `json:"receivedBytes"`
	SRTT          jsonDuration `json:"srtt"`
	Retransmits   uint32       `json:"retransmits"`
	Process       string       `json:"process,omitempty"`
	Legs          *jsonLegs    `json:"legs,omitempty"`
	Split         *jsonSplit   `json:"split,omitempty"`
}

// jsonLegs has the agent's connections with the client and with the server.
type jsonLegs struct {
	Client *jsonLeg `json:"client,omitempty"`
	Server *jsonLeg `json:"server,omitempty"`
}

type jsonLeg struct {
	SRTT          jsonDuration `json:"srtt"`
	Retransmits   uint32       `json:"retransmits"`
	ReceivedBytes uint64       `json:"receivedBytes"` // by the agent
	SentBytes     uint64       `json:"sentBytes"`
	Unread        jsonDuration `json:"unread"` // the other side's receive window was full
}

func legsJSON(l *tap.Legs) *jsonLegs {
	if l == nil {
		return nil
	}
	return &jsonLegs{legJSON(&l.Client), legJSON(&l.Server)}
}

func legJSON(l *tap.Leg) *jsonLeg {
	if *l == (tap.Leg{}) {
		return nil
	}
	return &jsonLeg{durationJSON(l.SRTT), l.Retransmits, l.Received, l.Sent, durationJSON(l.Unread)}
}

// JSON returns e as a JSON object on one line, without a newline at the end.
func JSON(e *tap.Event) ([]byte, error) {
	id := jsonID{e.Base, e.Stream}
	out := jsonEvent{
		Source: peerJSON(&e.Source), Destination: peerJSON(&e.Destination),
		RouteMeta: routeMeta(e), ProxyDirection: strings.ToUpper(e.Direction.String()),
		Time: e.Time.UTC(), Origin: "proxy", TLS: e.TLS, Protocol: e.Protocol, SNI: e.SNI, DNSName: e.DNS, Reason: e.Reason.String(), ReasonText: e.Reason.Text(), Policy: policyJSON(e),
	}
	// As in Linkerd, the other side's metadata has it.
	if e.TLS != "" {
		other := &out.Destination
		if e.Direction == mesh.Inbound {
			other = &out.Source
		}
		other.Metadata["tls"] = e.TLS
	}
	if e.Origin == tap.FromKernel {
		out.Origin = "kernel"
	}
	switch e.Kind {
	case tap.RequestInit:
		out.RequestInitEvent = &jsonRequestInit{ID: id, Method: e.Method, Scheme: schemeJSON(e.Scheme), Authority: e.Authority, Path: e.Path, jsonHeaders: headersJSON(e.Headers)}
	case tap.ResponseInit:
		out.ResponseInitEvent = &jsonResponseInit{ID: id, SinceRequestInit: durationJSON(e.Latency), HTTPStatus: e.Status, jsonHeaders: headersJSON(e.Headers)}
	case tap.ResponseEnd:
		trailers := headersJSON(e.Headers)
		out.ResponseEndEvent = &jsonResponseEnd{
			ID: id, SinceRequestInit: durationJSON(e.Duration), SinceResponseInit: durationJSON(max(0, e.Duration-e.Latency)),
			ResponseBytes: e.WriteBytes, Trailers: trailers.Headers, TrailersCut: trailers.Cut, GRPCStatusCode: e.GRPCStatus, ResetErrorCode: e.ResetCode,
			Split: splitJSON(e.Split), Asked: askedJSON(e.Asked), GRPC: e.GRPC, Retries: e.Retries, Reset: e.Reset, RequestBytes: e.ReadBytes,
			Method: e.Method, Authority: e.Authority, Path: e.Path, HTTPStatus: e.Status, Success: e.Success(),
		}
	case tap.ConnOpen, tap.LegOpen:
		out.ConnOpenEvent = &jsonConnOpen{ID: id, Leg: e.Side.String(), Process: e.Process, Split: splitJSON(e.Split)}
	case tap.ConnClose, tap.LegClose:
		out.ConnCloseEvent = &jsonConnClose{
			ID: id, Leg: e.Side.String(), Event: closeVerb(e), Duration: durationJSON(e.Duration), SentBytes: e.ReadBytes, ReceivedBytes: e.WriteBytes,
			SRTT: durationJSON(e.SRTT), Retransmits: e.Retransmits, Process: e.Process, Legs: legsJSON(e.Legs), Split: splitJSON(e.Split),
		}
	}
	return json.Marshal(out)
}

// schemeJSON returns HTTP and HTTPS as Linkerd writes them, which has names for these two, and
// other schemes as they are.
func schemeJSON(scheme string) string {
	if scheme == "http" || scheme == "https" {
		return strings.ToUpper(scheme)
	}
	return scheme
}

func durationJSON(d time.Duration) jsonDuration {
	return jsonDuration{Seconds: int64(d / time.Second), Nanos: int32(d % time.Second)}
}

// peerJSON uses Linkerd's names for metadata where it has one (namespace, pod,
// deployment, serviceaccount, node_name).
func peerJSON(p *tap.Peer) jsonPeer {
	out := jsonPeer{Port: p.Addr.Port(), Metadata: map[string]string{}}
	if p.Addr.IsValid() {
		out.IP = p.Addr.Addr().String()
	}
	for _, kv := range Labels(p) {
		key := kv[0]
		if long, ok := metadataNames[key]; ok {
			key = long
		}
		out.Metadata[key] = kv[1]
	}
	return out
}

var metadataNames = map[string]string{"ns": "namespace", "sa": "serviceaccount", "node": "node_name"}

func routeMeta(e *tap.Event) map[string]string {
	meta := map[string]string{}
	if s := e.Service; s != nil {
		meta["service"], meta["service_namespace"] = s.Name, s.Namespace
	}
	if r := e.Route; r != nil {
		meta["route"], meta["route_namespace"], meta["route_kind"], meta["route_rule"] = r.Name, r.Namespace, r.Kind, e.Rule
	}
	return meta
}
