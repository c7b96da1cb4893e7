package tapv1alpha1

import (
	"errors"
	"net/url"
	"strconv"
	"time"
)

// ConnectionsPath is the path of the connections of a namespace, or of all of them with "".
func ConnectionsPath(namespace string) string { return inNamespace(namespace, "connections") }

// Limits of ConnectionsQuery.Limit.
const (
	DefaultConnections = 1000
	MaxConnections     = 10_000
)

// ConnectionsQuery are the parameters of …/connections.
type ConnectionsQuery struct {
	// Namespace, Kind and Name say what either end is, or the Service that was called; "":
	// anything. For a path with a namespace it is that one.
	Namespace, Kind, Name string
	Node                  string // of the agent that carries it, on either side; "": any
	Limit                 int    // most connections in the answer; 0: DefaultConnections
}

func (q *ConnectionsQuery) text() map[string]*string {
	return map[string]*string{"namespace": &q.Namespace, "kind": &q.Kind, "name": &q.Name, "node": &q.Node}
}

// Values writes q as parameters.
func (q ConnectionsQuery) Values() url.Values {
	v := writeText(q.text())
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

// ParseConnections reads what Values writes, and sets Limit to its default if it is absent.
// Unknown parameters are refused.
func ParseConnections(values url.Values) (q ConnectionsQuery, err error) {
	q.Limit = DefaultConnections
	err = readText(values, q.text(), func(name, value string) (bool, error) {
		if name != "limit" {
			return false, nil
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > MaxConnections {
			return true, errors.New("want a number from 1 to " + strconv.Itoa(MaxConnections))
		}
		q.Limit = n
		return true, nil
	})
	if err == nil && q.Name != "" && q.Kind == "" {
		err = errors.New("parameter name: kind is missing")
	}
	return q, err
}

// ConnectionList is the answer of …/connections: the TCP connections of pods that are open.
type ConnectionList struct {
	Kind       string    `json:"kind"` // ConnectionList
	APIVersion string    `json:"apiVersion"`
	Time       time.Time `json:"time"`
	Nodes      Nodes     `json:"nodes"`
	Warnings   []string  `json:"warnings"` // a sentence for each node that is missing, and the like
	// Total is how many there are. Items are less if the limit leaves some out: the oldest
	// ones stay.
	Total int          `json:"total"`
	Items []Connection `json:"items"`
}

// Connection is an open TCP connection, as both agents see it that carry it. Times are
// milliseconds.
type Connection struct {
	Since              *time.Time      `json:"since,omitempty"` // absent: it was open before the agent knew the pod
	Source             ConnectionEnd   `json:"source"`
	Destination        ConnectionEnd   `json:"destination"`
	SourceAddress      string          `json:"sourceAddress"`
	DestinationAddress string          `json:"destinationAddress"`
	Service            *ServiceName    `json:"service,omitempty"` // that the source has called
	Protocol           string          `json:"protocol"`          // http1, http2, tcp, tls
	SNI                string          `json:"sni,omitempty"`
	DNSName            string          `json:"dnsName,omitempty"` // of the destination, as the client's resolver has said it
	Process            string          `json:"process,omitempty"` // of the source
	Secured            string          `json:"secured"`           // as of Edge
	SecuredWhy         string          `json:"securedWhy"`
	SRTT               float64         `json:"srtt,omitempty"`   // smoothed round-trip time towards the other pod
	MinRTT             float64         `json:"minRTT,omitempty"` // the lowest of the last minutes, without delayed acknowledgements
	Retransmits        uint64          `json:"retransmits,omitempty"`
	ReadBytes          uint64          `json:"readBytes"`      // from the source
	WriteBytes         uint64          `json:"writeBytes"`     // to the source
	Node               string          `json:"node"`           // of the agent that carries it, on the source's side if both do
	Part               string          `json:"part,omitempty"` // one of Part…; "": all the way
	Legs               []ConnectionLeg `json:"legs,omitempty"` // from the source to the destination
}

// Parts of the way from an application to another one. Requests share connections, so those
// that carry requests are listed by themselves.
const (
	PartApplication = "application" // between an agent and the pod of its node
	PartWire        = "wire"        // between the pods, or a pod and something outside the mesh
)

// ConnectionEnd is an end of a connection. Kind is that of a workload in the singular,
// KindExternal or KindNode.
type ConnectionEnd struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Pod       string `json:"pod,omitempty"`
	Identity  string `json:"identity,omitempty"` // proven
}

// ConnectionLeg is one socket of an agent, or of a pod whose connection no agent carries.
type ConnectionLeg struct {
	Node        string  `json:"node"`
	Part        string  `json:"part"`
	Local       string  `json:"local"`
	Remote      string  `json:"remote"`
	SRTT        float64 `json:"srtt,omitempty"`
	MinRTT      float64 `json:"minRTT,omitempty"`
	Retransmits uint64  `json:"retransmits,omitempty"`
	Received    uint64  `json:"received"` // bytes; with mutual TLS those of the records
	Sent        uint64  `json:"sent"`
	Unread      float64 `json:"unread,omitempty"` // how long the other side's receive window was full
}
