package hostile

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// ways are the servers of the quiet clients: "near" of one on the server's node, and
// "far" of one on the other node.
var ways = []string{"near", "far"}

// form is how long what is done. Calm and attack take turns.
type form struct {
	rounds       int
	calm, attack time.Duration
	settle       time.Duration // between an attack's end and what counts as calm
	tries        int           // of an attack that breaks a rule
}

var (
	shortForm = form{rounds: 1, calm: 700 * time.Millisecond, attack: time.Second, settle: 100 * time.Millisecond, tries: 3}
	fullForm  = form{rounds: 2, calm: 1500 * time.Millisecond, attack: 2500 * time.Millisecond, settle: 500 * time.Millisecond, tries: 3}
)

// TestHostile runs the attacks of the table.
func TestHostile(t *testing.T) {
	f, meshed := shortForm, newStage(t, true)
	var bare *stage
	if *full {
		f, bare = fullForm, newStage(t, false)
		f.rounds, f.tries = *rounds, *tries
	}
	var rows []row
	for _, a := range attacks {
		if !*full {
			a.conns, a.lasts = a.short, 0
		}
		if a.conns == 0 {
			continue
		}
		t.Run(a.name, func(t *testing.T) { rows = append(rows, try(t, a, f, meshed, bare)) })
	}
	t.Logf("\n%s", table(rows))
}

// try runs an attack, and again where it breaks a rule that is not known to be broken,
// or breaks none that is: what is wrong shows each time.
func try(t *testing.T, a attack, f form, meshed, bare *stage) row {
	var r row
	missing := expected(a) // what has not shown of it
	var news []finding
	for n := range f.tries {
		one := row{attack: a}
		if bare != nil && a.bare {
			one.bare = measure(t, a, f, bare)
		}
		one.meshed = measure(t, a, f, meshed)
		one.found = judge(a, one.meshed, one.bare)
		t.Logf("%s", one)
		if n == 0 {
			r, news = one, slices.Clone(one.found)
		}
		news = slices.DeleteFunc(news, func(f finding) bool { return known(a, f.rule) != nil || !has(one.found, f.rule) })
		missing = slices.DeleteFunc(missing, func(rule string) bool { return has(one.found, rule) })
		if len(news) == 0 && (len(missing) == 0 || !*full) {
			break
		}
	}
	for _, f := range news {
		t.Errorf("%s: %s", f.rule, f.figure)
	}
	if *full {
		for _, rule := range missing {
			t.Errorf("%s is not broken any more, take it off the open list: %s", rule, known(a, rule).cause)
		}
	}
	return r
}

// measured is what an attack did on a stage.
type measured struct {
	calm, under, fresh map[string]felt // by way; fresh: new connections, under attack
	got                outcome         // of all rounds together
	used               map[string]used
	probed             probed
	lasted             time.Duration // the attack, in all rounds
	fallbacks          uint64
	kept               int // descriptors
}

func measure(t *testing.T, a attack, f form, s *stage) *measured {
	t.Helper()
	m := &measured{calm: map[string]felt{}, under: map[string]felt{}, fresh: map[string]felt{}}
	pids := s.processes()
	server := map[string]string{"far": s.addr("server", 8080)}
	far := act(t, s.Lab, "quiet", order{Do: "victim", Addrs: server})
	near := act(t, s.Lab, "near", order{Do: "victim", Addrs: map[string]string{"near": s.addr("server", 8080)}})
	var prober *actor
	if s.meshed {
		prober = act(t, s.Lab, "outsider", order{Do: "probe", Addrs: map[string]string{"http": s.addr("vault", 8080), "echo": s.addr("vault", 7000)}})
	}
	time.Sleep(f.settle) // connections are made
	fds := descriptors(pids["node-2"])
	meter := watch(t, pids)

	lasts := f.attack
	if a.lasts > 0 {
		lasts = a.lasts
	}
	var calm, under []span
	for range f.rounds {
		began := time.Now()
		time.Sleep(f.calm)
		calm = append(calm, span{began, time.Now()})
		over := meter.attacked()
		attacker := act(t, s.Lab, a.from, order{Do: a.do, To: s.place(t, a.to), Conns: a.conns, For: lasts, Cert: s.cert(t, a.cert), ALPN: a.alpn})
		var one outcome
		attacker.result(t, &one)
		over()
		m.got = m.got.plus(one)
		m.lasted += one.Ended.Sub(one.Began)
		under = append(under, span{one.Began, one.Ended})
		time.Sleep(f.settle)
	}
	if a.answered && m.got.Got == 0 {
		t.Errorf("the attacker got no answer, so this was no attack: %s", m.got.Why)
	}
	m.used = meter.stop()
	var all, more []sample
	far.end(t, &all)
	near.end(t, &more)
	all = append(all, more...)
	if prober != nil {
		prober.end(t, &m.probed)
	}
	for _, way := range ways {
		m.calm[way], m.under[way], m.fresh[way] = feel(all, way, false, calm), feel(all, way, false, under), feel(all, way, true, under)
		if m.calm[way].Count == 0 || m.under[way].Count == 0 && s.front == nil {
			t.Errorf("%s: no requests: %+v, %+v", way, m.calm[way], m.under[way])
		}
	}
	now := s.fallbacks(t)
	m.fallbacks, s.fellBack = now-s.fellBack, now
	if len(pids) > 0 {
		m.kept = released(pids["node-2"], fds)
		for name, now := range s.processes() {
			if !slices.Equal(now, pids[name]) {
				u := m.used[name]
				u.Gone = true
				m.used[name] = u
			}
		}
	}
	return m
}

func (o outcome) plus(p outcome) outcome {
	p.Began, p.Why = o.Began, orText(o.Why, p.Why)
	p.Opened += o.Opened
	p.Refused += o.Refused
	p.Sent += o.Sent
	p.SentBytes += o.SentBytes
	p.Got += o.Got
	p.GotBytes += o.GotBytes
	p.Lost += o.Lost
	p.Last = max(p.Last, o.Last)
	return p
}

func orText(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// fallbacks counts connections that agents have made in plaintext where there should be
// mTLS.
func (s *stage) fallbacks(t *testing.T) (n uint64) {
	t.Helper()
	if !s.meshed {
		return 0
	}
	for node := range s.nodes {
		var status struct{ PlaintextFallbacks uint64 }
		r := s.TryAgent(node, "status", "-o", "json")
		if err := json.Unmarshal([]byte(r.Stdout), &status); err != nil {
			t.Errorf("agent status of %s: %v: %s", node, err, r)
		}
		n += status.PlaintextFallbacks
	}
	return n
}

// released waits until processes have no more descriptors than before, but for some,
// and returns how many more they have.
func released(pids []int, before int) int {
	const some, patience = 300, 20 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		more := descriptors(pids) - before
		if more <= some {
			return 0
		}
		if time.Now().After(deadline) {
			return more
		}
	}
}

// TestAttacksAreThere: each row names an attack that there is, and names are unique.
func TestAttacksAreThere(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range attacks {
		_, is := floods[a.do]
		if attackers[a.do] == nil && !is {
			t.Errorf("%s: there is no attack %q", a.name, a.do)
		}
		if seen[a.name] || strings.Contains(a.name, " ") {
			t.Errorf("two rows, or none that -run finds: %q", a.name)
		}
		seen[a.name] = true
	}
}
