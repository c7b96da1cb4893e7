// Package sample answers the dashboard's API with figures of no real traffic: the demo's
// emojivoto, a shop with a canary, and as many other workloads as are asked for. What it
// answers is a function of the seed and of the time, so a moment that was shown can be
// shown again. It has what a front end must cope with: calls that fail, plaintext, an
// agent that does not answer, and text that is HTML.
package sample

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// Options say what to generate.
type Options struct {
	Seed      uint64
	Workloads int // beside those of emojivoto, shop and legacy
	// PerNamespace is how many of them a namespace has; 0 is 25.
	PerNamespace int
	// Hostile gives names that are markup where an API server would allow none.
	Hostile bool
	// Narrow lets nobody ask for the namespace legacy but by its own path.
	Narrow bool
	// Young makes the agent of youngNode one that has started youngAge ago.
	Young bool
	// Speed is how many seconds pass in one: streams answer so much oftener, and each call has
	// a path of its own. 0 is 1.
	Speed float64
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// World is what the figures are of.
type World struct {
	options   Options
	workloads []*workload
	edges     []*edge
	byName    map[string]*workload
}

type workload struct {
	id              int
	kind, ns, name  string
	pods, meshed    int
	ready           int
	nodes           []string
	cpu, memory     float64
	throttled, oom  bool
	expiresInMinute int
}

type edge struct {
	id        uint64
	from, to  *workload
	service   *objectName
	protocol  string // http1, http2, grpc, tcp
	secured   string
	why       string
	rate      float64 // requests, or connections, a second
	median    float64 // ms
	spread    float64 // sigma of the logarithm
	failing   float64 // share
	reason    string  // of the failures; "" is by status
	paths     []string
	authority string
	canary    int // 1: the stable backend's part, 2: the canary's
}

const (
	hostileText = `<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>`
	silentNode  = "node-7"
	youngNode   = "node-4" // has pods of emojivoto's voting
	youngAge    = 90 * time.Second
	nodeCount   = 12
)

var plaintext = map[string]string{
	"no-identity": "the client is outside the mesh: its pod has no label underlane.io/mesh",
	"not-proxied": "port 3306 is in underlane.io/skip-outbound-ports of the client's pod",
	"agent-down":  "the agent of the server's node does not answer, and fail-mode is open",
}

// New makes the world of o.
func New(o Options) *World {
	if o.Now == nil {
		o.Now = time.Now
	}
	w := &World{options: o, byName: map[string]*workload{}}
	r := rand.New(rand.NewPCG(o.Seed, 11))
	w.emojivoto(r)
	w.shop(r)
	w.legacy(r)
	w.crowd(r, o.Workloads)
	if o.Hostile {
		w.hostile(r)
	}
	w.kubelets()
	return w
}

func (w *World) add(r *rand.Rand, kind, ns, name string, pods int) *workload {
	l := &workload{
		id: len(w.workloads), kind: kind, ns: ns, name: name, pods: pods, meshed: pods, ready: pods,
		cpu: 0.02 + 0.4*r.Float64()*r.Float64(), memory: 24e6 + 700e6*r.Float64()*r.Float64(),
		expiresInMinute: 20 + r.IntN(38),
	}
	for i := range min(pods, nodeCount) {
		l.nodes = append(l.nodes, fmt.Sprintf("node-%d", (l.id*5+i*7)%nodeCount+1))
	}
	w.workloads = append(w.workloads, l)
	w.byName[ns+"/"+name] = l
	return l
}

func (w *World) link(from, to *workload, e edge) *edge {
	e.id, e.from, e.to = uint64(len(w.edges)), from, to
	if e.secured == "" {
		e.secured = "true"
		if len(from.nodes) == 1 && len(to.nodes) == 1 && from.nodes[0] == to.nodes[0] {
			e.secured = "same-node"
		}
	}
	e.why = plaintext[e.secured]
	if e.spread == 0 {
		e.spread = 0.55
	}
	if e.service == nil && from.isPods() && to.isPods() {
		e.service = &objectName{to.ns, to.name}
	}
	if e.authority == "" && e.service != nil {
		e.authority = e.service.Name + "." + e.service.Namespace + ".svc.cluster.local:8080"
	}
	w.edges = append(w.edges, &e)
	return &e
}

// isPods is false of what is outside the cluster, and of a node itself.
func (l *workload) isPods() bool {
	return l.kind != tapv1alpha1.KindExternal && l.kind != tapv1alpha1.KindNode
}

// kubelets probe the shop. They are last, and have chance of their own: all else is the same without them.
func (w *World) kubelets() {
	r := rand.New(rand.NewPCG(w.options.Seed, 12))
	for _, name := range []string{"shop/cart", "shop/orders-db"} {
		to := w.byName[name]
		w.link(w.add(r, tapv1alpha1.KindNode, "", to.nodes[0], 0), to, edge{
			protocol: "tcp", rate: 0.1, median: 2, secured: "not-proxied",
		}).why = "no agent carries it: it is of the node itself, such as the kubelet's probes"
	}
}

func (w *World) emojivoto(r *rand.Rand) {
	const ns = "emojivoto"
	bot := w.add(r, "deployment", ns, "vote-bot", 1)
	web := w.add(r, "deployment", ns, "web", 2)
	emoji := w.add(r, "deployment", ns, "emoji", 2)
	voting := w.add(r, "deployment", ns, "voting", 2)
	banner := w.add(r, "daemonset", ns, "banner", 3)
	bot.memory, web.memory, emoji.memory, voting.memory = 18e6, 41e6, 33e6, 36e6
	w.link(bot, web, edge{protocol: "http1", rate: 14, median: 6.2, failing: 0.052, paths: []string{"/api/list", "/api/vote?choice=:doughnut:", "/api/vote?choice=:joy:", "/api/leaderboard", "/"}, service: &objectName{ns, "web-svc"}})
	w.link(web, emoji, edge{protocol: "grpc", rate: 13, median: 0.9, paths: []string{"/emojivoto.v1.EmojiService/ListAll", "/emojivoto.v1.EmojiService/FindByShortcode"}, service: &objectName{ns, "emoji-svc"}})
	w.link(web, voting, edge{protocol: "grpc", rate: 7, median: 1.4, failing: 0.16, paths: []string{"/emojivoto.v1.VotingService/VoteDoughnut", "/emojivoto.v1.VotingService/VoteJoy", "/emojivoto.v1.VotingService/VoteSunglasses", "/emojivoto.v1.VotingService/Results", "/emojivoto.v1.VotingService/VoteGhost"}, service: &objectName{ns, "voting-svc"}})
	w.link(web, banner, edge{protocol: "tcp", rate: 0.4, median: 30, service: &objectName{ns, "banner-svc"}})
}

// shop has a canary: the controller of a rollout moves its weight (canaryWeight).
func (w *World) shop(r *rand.Rand) {
	const ns = "shop"
	gateway := w.add(r, "deployment", ns, "gateway", 3)
	cart := w.add(r, "deployment", ns, "cart", 3)
	v1 := w.add(r, "deployment", ns, "catalog-v1", 4)
	v2 := w.add(r, "deployment", ns, "catalog-v2", 2)
	pay := w.add(r, "deployment", ns, "payments", 2)
	db := w.add(r, "statefulset", ns, "orders-db", 3)
	mail := w.add(r, "external", "", "smtp.example.com:587", 0)
	psp := w.add(r, "external", "", "api.payments.example:443", 0)
	catalog := &objectName{ns, "catalog"}
	paths := []string{"/products", "/products/4711", "/products/search?q=" + "lamp", "/products/search?q=" + hostileText}
	w.link(gateway, cart, edge{protocol: "http2", rate: 42, median: 4, paths: []string{"/cart", "/cart/items"}})
	w.link(gateway, v1, edge{protocol: "http2", rate: 120, median: 7, paths: paths, service: catalog, canary: 1})
	w.link(gateway, v2, edge{protocol: "http2", rate: 120, median: 4.5, failing: 0.004, paths: paths, service: catalog, canary: 2})
	w.link(cart, pay, edge{protocol: "http2", rate: 5, median: 38, spread: 0.9, paths: []string{"/v2/charges"}})
	w.link(cart, db, edge{protocol: "tcp", rate: 2, median: 400})
	w.link(pay, db, edge{protocol: "tcp", rate: 0.6, median: 900})
	w.link(pay, psp, edge{protocol: "tls", rate: 4, median: 120, secured: "no-identity"})
	w.link(pay, mail, edge{protocol: "tcp", rate: 0.2, median: 900, secured: "no-identity"})
	pay.throttled, pay.cpu = true, 0.49
}

// legacy is outside the mesh, or only partly in it.
func (w *World) legacy(r *rand.Rand) {
	const ns = "legacy"
	batch := w.add(r, "cronjob", ns, "nightly-report", 1)
	erp := w.add(r, "statefulset", ns, "erp", 2)
	mysql := w.add(r, "statefulset", ns, "mysql", 1)
	batch.meshed, mysql.meshed = 0, 0
	erp.meshed, erp.oom = 1, true
	erp.expiresInMinute = 15 // sometimes late: it is renewed at 20 or more
	w.link(batch, erp, edge{protocol: "http1", rate: 1.5, median: 210, spread: 0.8, secured: "no-identity", paths: []string{"/soap"}})
	w.link(erp, mysql, edge{protocol: "tcp", rate: 3, median: 60, secured: "not-proxied"})
	// The policy of payments lets in cart alone, and that of cart all but the paths of an admin.
	w.link(batch, w.byName["shop/payments"], edge{protocol: "http1", rate: 0.15, median: 0.4, failing: 1, reason: "policy-denied", secured: "no-identity", paths: []string{"/v2/charges"}})
	w.link(erp, w.byName["shop/cart"], edge{protocol: "http1", rate: 0.8, median: 3, failing: 0.3, reason: "policy-denied", paths: []string{"/cart", "/admin"}})
	w.link(batch, w.byName["shop/orders-db"], edge{protocol: "tcp", rate: 0.2, median: 1, failing: 1, reason: "policy-denied", secured: "no-identity"})
	w.link(w.byName["shop/cart"], erp, edge{protocol: "http1", rate: 2.2, median: 90, failing: 0.03, reason: "connect-refused", secured: "agent-down", paths: []string{"/stock"}})
}

var (
	teams = []string{"accounts", "ads", "analytics", "billing", "chat", "content", "crm", "delivery", "devices", "events", "fraud", "geo", "identity", "inventory", "invoices", "loyalty", "maps", "media", "metering", "mobile", "notify", "offers", "orders", "partners", "pricing", "profiles", "quotes", "ratings", "recommend", "reports", "returns", "risk", "search", "sessions", "shipping", "streams", "support", "tax", "users", "vouchers"}
	parts = []string{"api", "worker", "store", "cache", "gateway", "indexer", "scheduler", "export", "import", "ui", "sync", "mailer", "audit", "feed", "rules"}
	verbs = []string{"/healthz", "/v1/items", "/v1/items/42", "/v1/search?q=tea", "/v2/batch", "/metrics"}
)

// crowd adds n workloads, each of which calls one to four others.
func (w *World) crowd(r *rand.Rand, n int) {
	if n == 0 {
		return
	}
	per := w.options.PerNamespace
	if per == 0 {
		per = 25
	}
	spaces := max(1, n/per)
	groups := make([][]*workload, spaces)
	for i := range n {
		s := i % spaces
		ns := teams[s%len(teams)]
		if s >= len(teams) {
			ns += fmt.Sprintf("-%d", s/len(teams)+1)
		}
		k := i / spaces
		name := parts[k%len(parts)]
		if k >= len(parts) {
			name += fmt.Sprintf("-%d", k/len(parts)+1)
		}
		if w.options.Hostile && i == 3 {
			ns, name = `ns"><svg onload=window.pwned=3>`, hostileText
		}
		kind := "deployment"
		switch name {
		case "store", "cache":
			kind = "statefulset"
		case "audit":
			kind = "daemonset"
		}
		l := w.add(r, kind, ns, name, 1+r.IntN(4))
		if r.IntN(60) == 0 {
			l.meshed = 0
		}
		groups[s] = append(groups[s], l)
	}
	for s, group := range groups {
		for i, from := range group {
			for range 1 + r.IntN(3) {
				other := group
				if r.IntN(5) == 0 {
					other = groups[r.IntN(spaces)]
				}
				to := other[r.IntN(len(other))]
				// Calls go one way, from the earlier to the later, as in layers.
				if to.id <= from.id || to.ns == from.ns && i == 0 && s == 0 {
					continue
				}
				e := edge{
					protocol: []string{"http1", "http2", "grpc", "http1", "tcp"}[r.IntN(5)],
					rate:     math.Exp(r.NormFloat64()*1.5 + 1), median: math.Exp(r.NormFloat64()*0.9 + 1.5), spread: 0.35 + 0.5*r.Float64(),
					paths: verbs,
				}
				switch {
				case from.meshed == 0:
					e.secured = "no-identity"
				case to.meshed == 0:
					e.secured = "no-identity"
				}
				if r.IntN(70) == 0 {
					e.failing, e.reason = 0.01+0.08*r.Float64(), []string{"", "timeout", "connect-refused"}[r.IntN(3)]
				}
				w.link(from, to, e)
			}
		}
	}
}

// noise is a number from 0 to 1 that belongs to its arguments: integers and strings. An answer
// takes hundreds of thousands of them, so they are hashed without fmt.
func (w *World) noise(parts ...any) float64 {
	var room [96]byte
	text := append(strconv.AppendUint(room[:0], w.options.Seed, 10), " ["...)
	for i, part := range parts {
		if i > 0 {
			text = append(text, ' ')
		}
		switch v := part.(type) {
		case int:
			text = strconv.AppendInt(text, int64(v), 10)
		case int64:
			text = strconv.AppendInt(text, v, 10)
		case uint64:
			text = strconv.AppendUint(text, v, 10)
		case string:
			text = append(text, v...)
		default:
			panic(fmt.Sprintf("noise of a %T: want an integer or a string", v))
		}
	}
	x := uint64(14695981039346656037) // FNV-1a
	for _, c := range append(text, ']') {
		x = (x ^ uint64(c)) * 1099511628211
	}
	x ^= x >> 31
	x *= 0x9e3779b97f4a7c15
	return float64((x^x>>29)>>11) / (1 << 53)
}

// canaryPeriod is how long a rollout of the canary takes, in steps of a tenth.
const canaryPeriod = 10 * time.Minute

// canaryWeight is the percentage that the canary has at t.
func canaryWeight(t time.Time) int {
	return int(t.Unix()%int64(canaryPeriod/time.Second)) / 60 * 11
}

// rateAt is the rate of e at t.
func (w *World) rateAt(e *edge, t time.Time) float64 {
	s := float64(t.Unix())
	day := 1 + 0.35*math.Sin(2*math.Pi*s/86400+float64(e.id))
	wave := 1 + 0.12*math.Sin(2*math.Pi*s/(170+float64(e.id%90))+float64(e.id))
	rate := e.rate * day * wave
	weight := float64(canaryWeight(t))
	switch e.canary {
	case 1:
		rate = 120 * day * (100 - weight) / 100
	case 2:
		rate = 120 * day * weight / 100
	}
	return rate
}
