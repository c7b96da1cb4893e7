package sample

import (
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// The shapes of the API's answers. Latencies are in milliseconds, memory in bytes,
// processors in cores, shares from 0 to 1, percentages of pressure from 0 to 100.
type (
	figures struct {
		Kind        string     `json:"kind"`
		Start       time.Time  `json:"start"`
		End         time.Time  `json:"end"`
		Since       time.Time  `json:"since"`
		StepSeconds int        `json:"stepSeconds,omitempty"`
		Nodes       answered   `json:"nodes"`
		Warnings    []string   `json:"warnings,omitempty"`
		Resources   []resource `json:"resources"`
		Edges       []edgeSums `json:"edges"`

		History        bool              `json:"history,omitempty"`
		CoveredSeconds int               `json:"coveredSeconds,omitempty"`
		Gaps           []tapv1alpha1.Gap `json:"gaps,omitempty"`
	}
	answered struct {
		Asked    int `json:"asked"`
		Answered int `json:"answered"`
	}
	resource struct {
		ID        int    `json:"id"`
		Kind      string `json:"kind"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
		Pods      int    `json:"pods,omitempty"`
		Meshed    int    `json:"meshed,omitempty"`
		Ready     int    `json:"ready,omitempty"`
		Identity  string `json:"identity,omitempty"`

		Nodes       []string     `json:"nodes,omitempty"`
		Resources   *usage       `json:"resources,omitempty"`
		Mesh        *meshCost    `json:"mesh,omitempty"`
		Certificate *certificate `json:"certificate,omitempty"`
		Settings    []setting    `json:"settings,omitempty"`
		Partial     bool         `json:"partial,omitempty"`
	}
	setting struct {
		Name   string   `json:"name"`
		Values []string `json:"values"`
	}
	usage struct {
		CPU         float64  `json:"cpu"`
		CPULimit    float64  `json:"cpuLimit,omitempty"`
		Throttled   float64  `json:"throttled,omitempty"`
		Memory      int64    `json:"memory"`
		MemoryLimit int64    `json:"memoryLimit,omitempty"`
		OOMKills    int      `json:"oomKills,omitempty"`
		PSI         pressure `json:"psi"`
	}
	pressure struct {
		CPU    float64 `json:"cpu"`
		Memory float64 `json:"memory"`
		IO     float64 `json:"io"`
	}
	meshCost struct {
		CPU         float64 `json:"cpu"`
		Memory      int64   `json:"memory"`
		Connections int     `json:"connections"`
		Waiting     int     `json:"waiting"`
	}
	certificate struct {
		Identity string    `json:"identity"`
		Expires  time.Time `json:"expires"`
	}
	objectName struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	}
	edgeSums struct {
		Source      int         `json:"source"`
		Destination int         `json:"destination"`
		Service     *objectName `json:"service,omitempty"`
		Protocol    string      `json:"protocol"`
		Secured     string      `json:"secured"`
		SecuredWhy  string      `json:"securedWhy,omitempty"`
		Partial     bool        `json:"partial,omitempty"`
		Covered     float64     `json:"coveredSeconds,omitempty"`
		Total       *sums       `json:"total"`
		Points      []*sums     `json:"points,omitempty"`

		counted, rate float64 // of Total
	}
	sums struct {
		Requests int            `json:"requests,omitempty"`
		Success  int            `json:"success,omitempty"`
		Failures map[string]int `json:"failures,omitempty"`
		Retries  int            `json:"retries,omitempty"`
		Latency  *latency       `json:"latency,omitempty"`
		Split    *split         `json:"split,omitempty"`
		TCP      *tcp           `json:"tcp,omitempty"`

		counts map[int]int // of the histogram
	}
	latency struct {
		P50     float64  `json:"p50"`
		P95     float64  `json:"p95"`
		P99     float64  `json:"p99"`
		Max     float64  `json:"max"`
		Buckets [][2]int `json:"buckets,omitempty"`
	}
	split struct {
		Queue     float64 `json:"queue"`
		Connect   float64 `json:"connect"`
		TLS       float64 `json:"tls"`
		FirstByte float64 `json:"firstByte"`
		Body      float64 `json:"body"`
	}
	tcp struct {
		Open        int     `json:"open"`
		Opened      int     `json:"opened,omitempty"`
		Closed      int     `json:"closed,omitempty"`
		Failed      int     `json:"failed,omitempty"`
		ReadBytes   int64   `json:"readBytes,omitempty"`
		WriteBytes  int64   `json:"writeBytes,omitempty"`
		SRTT        float64 `json:"srtt,omitempty"`
		Retransmits int     `json:"retransmits,omitempty"`
	}
	routes struct {
		Kind  string  `json:"kind"`
		Items []route `json:"items"`
	}
	route struct {
		Kind      string     `json:"kind"`
		Namespace string     `json:"namespace"`
		Name      string     `json:"name"`
		Parent    objectName `json:"parent"`
		Rules     []rule     `json:"rules"`
	}
	rule struct {
		Name     string    `json:"name"`
		Matches  []string  `json:"matches"`
		Backends []backend `json:"backends"`
		Timeouts string    `json:"timeouts,omitempty"`
		Retries  string    `json:"retries,omitempty"`
		Total    struct {
			Effective *sums `json:"effective"`
			Actual    *sums `json:"actual"`
		} `json:"total"`
	}
	backend struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
		Weight    int    `json:"weight"`
		Total     *sums  `json:"total,omitempty"`
	}
	connections struct {
		Kind     string       `json:"kind"`
		Nodes    answered     `json:"nodes"`
		Warnings []string     `json:"warnings"`
		Total    int          `json:"total"`
		Items    []connection `json:"items"`
	}
	connection struct {
		Since              time.Time `json:"since"`
		Source             peer      `json:"source"`
		Destination        peer      `json:"destination"`
		SourceAddress      string    `json:"sourceAddress"`
		DestinationAddress string    `json:"destinationAddress"`
		Protocol           string    `json:"protocol"`
		Secured            string    `json:"secured"`
		SRTT               float64   `json:"srtt"`
		Retransmits        int       `json:"retransmits"`
		ReadBytes          int64     `json:"readBytes"`
		WriteBytes         int64     `json:"writeBytes"`
		Node               string    `json:"node"`
		Part               string    `json:"part,omitempty"`
	}
	peer struct {
		Kind      string `json:"kind"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
		Pod       string `json:"pod,omitempty"`
	}
	checks struct {
		Kind       string          `json:"kind"`
		Categories []checkCategory `json:"categories"`
	}
	checkCategory struct {
		Name   string  `json:"name"`
		Checks []check `json:"checks"`
	}
	check struct {
		Description string `json:"description"`
		Result      string `json:"result"`
		Message     string `json:"message,omitempty"`
		Hint        string `json:"hint,omitempty"`
	}
)
