package archtest

// layers places every package: the longest entry that holds it counts. A
// package imports only packages of lower layers. What no package imports (tests,
// tools) is on top.
var layers = map[string]int{
	"cmd": 5,

	"pkg/agent":      4,
	"pkg/controller": 4,
	"pkg/cli":        4,

	"pkg/dnsname":   3,
	"pkg/figures":   3,
	"pkg/histogram": 0,
	"pkg/monotime":  0,
	"pkg/pmap":      0,
	"pkg/slots":     0,
	"pkg/l7proxy":   3,
	"pkg/redirect":  3,
	"pkg/telemetry": 3,
	"pkg/why":       3,

	"pkg/listener": 2,
	"pkg/observe":  2,
	"pkg/state":    2,
	"pkg/mtls":     2,
	"pkg/tap":      2,

	"pkg/control":        1, // the contract of the two ends
	"pkg/control/codec":  2,
	"pkg/control/client": 2,
	"pkg/control/server": 2,

	"pkg/agent/carry":                 4,
	"pkg/agent/confine":               4,
	"pkg/agent/connections":           4,
	"pkg/agent/costs":                 4,
	"pkg/agent/enrol":                 4,
	"pkg/agent/handover":              4,
	"pkg/agent/nodeapi":               4,
	"pkg/agent/observed":              4,
	"pkg/agent/nri":                   4,
	"pkg/agent/ownpages":              4,
	"pkg/agent/timeslice":             4,
	"pkg/agent/gcpace":                4,
	"pkg/agent/try":                   4,
	"pkg/agent/paths":                 4,
	"pkg/agent/weights":               4,
	"pkg/cli/agentapi":                4,
	"pkg/cli/certtext":                4,
	"pkg/cli/check":                   4,
	"pkg/cli/cluster":                 4,
	"pkg/cli/cluster/chart":           4,
	"pkg/cli/cluster/certs":           4,
	"pkg/cli/cluster/certs/certstest": 4,
	"pkg/cli/cluster/health":          4,
	"pkg/cli/cluster/installation":    4,
	"pkg/cli/cluster/manifest":        4,
	"pkg/cli/dashcmd":                 4,
	"pkg/cli/node":                    4,
	"pkg/cli/podtop":                  4,
	"pkg/cli/statcmd":                 4,
	"pkg/cli/tapcmd":                  4,
	"pkg/cli/topui":                   4,
	"pkg/cli/wait":                    4,
	"pkg/cli/newest":                  4,
	"pkg/cli/authzcmd":                4,
	"pkg/cli/whycmd":                  4,
	"pkg/controller/expressions":      4,
	"pkg/controller/fanin":            4,
	"pkg/controller/tapapi":           4,
	"pkg/controller/agentauth":        4,
	"pkg/controller/apitest":          4,
	"pkg/controller/bylabels":         4,
	"pkg/controller/cluster":          4,
	"pkg/controller/custom":           4,
	"pkg/controller/depend":           4,
	"pkg/controller/customclient":     4,
	"pkg/controller/history":          4,
	"pkg/controller/issuer":           4,
	"pkg/controller/jwks":             4,
	"pkg/controller/kind":             4,
	"pkg/controller/istiopolicy":      4,
	"pkg/controller/linkerdpolicy":    4,
	"pkg/controller/ownpolicy":        4,
	"pkg/controller/policyobject":     4,
	"pkg/controller/podstatus":        4,
	"pkg/controller/whatif":           4,
	"pkg/controller/routestatus":      4,
	"pkg/controller/translate":        4,
	"pkg/controller/watch":            4,
	"pkg/controller/watch/apiserver":  4,

	"pkg/mtls/ca": 2,

	"pkg/policy":            1,
	"pkg/policy/authz":      1,
	"pkg/policy/expression": 2,
	"pkg/policy/jwt":        2,
	"pkg/policy/calls":      1,
	"pkg/policy/judged":     3,
	"pkg/policy/rehearse":   3,
	"pkg/cgroup":            1,
	"pkg/agent/containers":  4,
	"pkg/rawio":             1,
	"pkg/fairshare":         1,
	"pkg/mtls/certchain":    1,
	"pkg/listener/crowd":    1,
	"pkg/listener/httpport": 2,
	"pkg/l7proxy/balance":   1,
	"pkg/l7proxy/detect":    1,
	"pkg/l7proxy/http1":     1,
	"pkg/l7proxy/http2":     1,
	"pkg/l7proxy/lifetime":  1,
	"pkg/l7proxy/reply":     1,
	"pkg/l7proxy/extauth":   1,

	"pkg/l7proxy/conn":        3,
	"pkg/l7proxy/quota":       3,
	"pkg/l7proxy/h2conn":      3,
	"pkg/l7proxy/mux":         3,
	"pkg/l7proxy/upstream":    3,
	"pkg/l7proxy/endpoints":   3,
	"pkg/l7proxy/destination": 3,
	"pkg/l7proxy/authorizer":  3,
	"pkg/l7proxy/request":     3,
	"pkg/l7proxy/h1":          3,
	"pkg/l7proxy/h2":          3,
	"pkg/l7proxy/opaque":      3,
	"pkg/l7proxy/proxytest":   3, // for the tests of the others
	"pkg/figures/table":       3,
	"pkg/figures/watch":       3,
	"pkg/figures/wire":        3,
	"pkg/limit":               1,
	"pkg/limit/lease":         1,
	"pkg/tracing":             1,
	"pkg/tracing/otlp":        3,
	"pkg/accesslog":           3,
	"pkg/retry":               1,
	"pkg/route":               1,
	"pkg/tap/filter":          1,
	"pkg/tap/feed":            1,
	"pkg/tap/render":          1,
	"pkg/tap/top":             1,
	"pkg/tap/wire":            1,
	"pkg/dashboard":           1,
	"pkg/redirect/netns":      1,
	"pkg/redirect/podns":      1,

	"pkg/redirect/heartbeat": 1,
	"pkg/redirect/ringtest":  3, // for tests

	"bpf":         1,
	"api":         0,
	"pkg/mesh":    0,
	"pkg/release": 0, // versions and channels
	"daemonset":   0, // the embedded chart

	"test":             6,
	"internal":         6,
	"internal/crdtext": 0, // for the tests of all
	"internal/rundir":  0,
	"internal/version": 0,
	"test/ports":       0, // for the tests of all
	"test/bombs":       0, // the same
	"test/released":    0, // the same
}

// families: a package and its sub-packages belong together; between them the
// order is theirs (and Go's: no cycles). Everything else keeps to the layers.
var families = []string{
	"api", "pkg/agent", "pkg/control", "pkg/controller", "pkg/cli", "pkg/figures", "pkg/redirect", "pkg/tap", "pkg/l7proxy", "test",
}

// orders are families whose packages stand one above the other: each imports only
// packages of the same family that are named before its own row. The last rows are
// nearest to the family's own package.
var orders = map[string][][]string{
	"pkg/l7proxy": {
		{"balance", "detect", "http1", "http2", "lifetime"}, // leaves
		{"reply", "conn", "quota", "extauth"},
		{"h2conn", "proxytest"},
		{"mux"},
		{"upstream"},    // connections to endpoints
		{"endpoints"},   // how endpoints are
		{"destination"}, // where a connection wants to go
		{"authorizer"},  // who else is asked
		{"request"},     // what becomes of a request, of any protocol
		{"h1", "h2", "opaque"},
	},
}

// sideways are the imports within one layer, each with its reason.
var sideways = map[[2]string]string{
	{"pkg/control/codec", "pkg/state"}:             "a Delta is decoded to the one that a Store applies",
	{"pkg/control/codec", "pkg/policy/expression"}: "an expression is planned where it arrives",

	{"pkg/control/client", "pkg/state"}: "the client's work is to apply deltas to a Store",
	{"pkg/control/client", "pkg/mtls"}:  "the client implements mtls.Signer",
	{"pkg/control/server", "pkg/state"}: "resources are named alike at both ends",
	{"pkg/policy/authz", "pkg/route"}:   "a policy may be about a route",
	{"pkg/retry", "pkg/limit"}:          "a retry budget is a rate",
	{"pkg/listener/crowd", "pkg/limit"}: "the connections of strangers have a rate",
	{"pkg/route", "pkg/retry"}:          "a route has a retry policy",
	{"pkg/redirect/netns", "pkg/rawio"}: "sockets made in a pod's namespace are handed out as raw connections",

	{"pkg/policy/calls", "pkg/policy/authz"}: "calls are remembered with what policies have decided about them",
	{"pkg/tap/render", "pkg/policy/authz"}:   "an event names the policy that decided",
	{"pkg/tap/wire", "pkg/policy/authz"}:     "likewise",
	{"pkg/tap/wire", "pkg/policy/calls"}:     "likewise",

	{"pkg/redirect/podns", "pkg/cgroup"}: "one package knows the kubelet's names of pods' cgroups",
}

// onlyIn: modules (or packages) that are the business of a few.
var onlyIn = []struct {
	imports []string
	in      []string
	why     string
}{
	// The benchmark counts system calls in the kernel; the contract fills maps.
	{[]string{"github.com/cilium/ebpf"}, []string{"bpf", "pkg/redirect", "test/bench/calls", "test/contract/inject"}, "one package talks to the kernel"},
	{[]string{"github.com/vishvananda"}, []string{"pkg/redirect", "test"}, "interfaces and namespaces are pkg/redirect's"},
	// sigs.k8s.io/yaml is a YAML reader, no Kubernetes: the agent's config file.
	{[]string{"k8s.io", "sigs.k8s.io/gateway-api"}, []string{"api/policy", "pkg/policy/rehearse", "pkg/controller", "cmd/controller", "pkg/cli", "test"}, "nodes know the mesh's own types only"},
	{[]string{"helm.sh/helm"}, []string{"pkg/cli/cluster/chart"}, "one package renders the chart"},
	{
		[]string{"github.com/prometheus"},
		// The controller has a handful of counters of its own and no data path:
		// it exports them itself until a second user makes a shared form worth it.
		[]string{"pkg/telemetry", "pkg/controller", "test"},
		"packages count; telemetry exports",
	},
	{[]string{"go.opentelemetry.io"}, []string{"pkg/tracing/otlp", "test"}, "one package speaks OTLP"},
	{[]string{"github.com/go-jose"}, []string{"pkg/policy/jwt", "test"}, "one package verifies tokens"},
	{[]string{"cel.dev/cel-go"}, []string{"pkg/policy/expression", "pkg/controller/expressions"}, "one package evaluates expressions, and one checks them"},
	{[]string{"golang.org/x/net/http2"}, []string{"pkg/l7proxy/http2", "test"}, "one HTTP/2 engine"},
	{[]string{"pkg/mtls/ca"}, []string{"pkg/controller", "cmd/controller", "test"}, "a node cannot sign"},
	{[]string{"bpf"}, []string{"pkg/redirect", "test"}, "one package loads the programs"},
}

// never: what from must not even depend on through others.
var never = []struct {
	from   []string
	except []string // sub-packages of from
	deps   []string
	why    string
}{
	{
		from: []string{"pkg/l7proxy", "pkg/listener", "pkg/redirect", "pkg/mtls", "pkg/tap", "pkg/policy", "pkg/rawio"},
		// These are on the reader's side of the hub: names of status codes, events on
		// their way to a CLI or a browser, and policies written from them.
		except: []string{"pkg/tap/feed", "pkg/tap/render", "pkg/tap/top", "pkg/tap/wire", "pkg/policy/rehearse", "pkg/policy/judged"},
		deps:   []string{"google.golang.org/grpc"},
		why:    "there is no gRPC in the request path",
	},
	{from: []string{"pkg/l7proxy"}, deps: []string{"pkg/redirect", "bpf"}, why: "pkg/agent wires them"},
	{from: []string{"pkg/redirect"}, deps: []string{"pkg/l7proxy"}, why: "pkg/agent wires them"},
	{from: []string{"pkg/agent", "cmd/agent"}, deps: []string{"pkg/mtls/ca"}, why: "a node cannot sign"},
	{from: []string{"pkg/agent", "cmd/agent"}, deps: []string{"k8s.io", "sigs.k8s.io/gateway-api", "helm.sh/helm"}, why: "nodes know the mesh's own types only"},
	{from: []string{"pkg/agent", "cmd/agent"}, deps: []string{"cel.dev/cel-go/parser", "github.com/antlr4-go"}, why: "nodes evaluate expressions that the controller has checked"},
	{from: []string{"pkg/agent", "cmd/agent", "pkg/control/client"}, deps: []string{"pkg/control/server"}, why: "a node has one end of the stream"},
	{from: []string{"pkg/controller", "cmd/controller", "pkg/control/server"}, deps: []string{"pkg/control/client"}, why: "the controller has the other end of the stream"},
	{from: []string{"cmd/controller", "pkg/controller"}, deps: []string{"bpf", "pkg/redirect"}, why: "the control plane touches no kernel"},
}

// pure packages are state machines and decisions: no socket, clock, goroutine.
var pure = []string{"pkg/mesh", "pkg/policy", "pkg/policy/authz", "pkg/policy/expression", "pkg/policy/jwt", "pkg/control/codec", "pkg/l7proxy/detect", "pkg/l7proxy/http1", "pkg/l7proxy/http2", "pkg/limit", "pkg/limit/lease", "pkg/retry", "pkg/route", "pkg/dnsname"}

// impure is what they must not import.
var impure = []string{"net", "os", "syscall", "log", "log/slog", "golang.org/x/sys", "context"}

// fuzzed packages read bytes that come from outside the process.
var fuzzed = []string{
	"pkg/l7proxy/detect", "pkg/l7proxy/http1", "pkg/l7proxy/http2", "pkg/route", "pkg/policy/authz", "pkg/policy/expression", "pkg/policy/jwt", "pkg/tracing",
	"pkg/agent/handover", "pkg/mtls", "pkg/mtls/ca", "pkg/tap/filter", "pkg/control/codec", "pkg/control/server", "pkg/cli/cluster/manifest",
	"pkg/release", "pkg/l7proxy/extauth", "pkg/controller/history", "pkg/controller/ownpolicy", "pkg/controller/istiopolicy", "pkg/controller/translate", "pkg/dnsname",
}

// skips are the tests that may be skipped, by file.
var skips = map[string]string{
	"pkg/controller/history/slow_test.go":  "the race detector makes these tests of one goroutine 40 times slower: scripts/test.sh runs them without it",
	"pkg/redirect/netns/nstest/nstest.go":  "without root there are no namespaces and no eBPF; make test says so",
	"test/lab/lab.go":                      "the same",
	"test/lab/host/host_test.go":           "the same",
	"test/bench/calls/calls_test.go":       "the same",
	"test/cluster/kernel/cgroup_test.go":   "the same",
	"pkg/redirect/redirects_test.go":       "before Linux 6.6 there is no tcx to attach to",
	"test/e2e/kernelpath_redirect_test.go": "the same",
	"internal/scriptstest/apt_test.go":     "without apt there are no locks of apt's",
}

const (
	maxLines     = 600
	maxTestLines = 1000
	maxMainLines = 80
)
