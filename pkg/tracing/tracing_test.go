package tracing

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

const (
	id    = "0af7651916cd43dd8448eb211c80319c"
	span  = "b7ad6b7169203331"
	w3c   = "00-" + id + "-" + span + "-01"
	short = "8448eb211c80319c"
)

var (
	all   = mesh.TraceSampling{PerMillion: 1_000_000}
	asked = mesh.TraceSampling{}
	off   = mesh.TraceSampling{Off: true}
)

// carry makes a Carrier of lines "name: value".
func carry(lines ...string) *Carrier {
	c := new(Carrier)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		c.Add(name, value)
	}
	return c
}

// forwarded returns the headers of a request after the changes of a trace, sorted, with the
// new span's ID written as SPAN and a new trace's as TRACE.
func forwarded(t *Trace, lines []string) []string {
	out := slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
		name, _, _ := strings.Cut(line, ": ")
		return slices.Contains(t.Remove, strings.ToLower(name))
	})
	for _, f := range t.Add {
		value := strings.ReplaceAll(f.Value, t.Span.String(), "SPAN")
		if t.Parent == (SpanID{}) {
			value = strings.ReplaceAll(value, t.ID.String(), "TRACE")
		}
		out = append(out, f.Name+": "+value)
	}
	slices.Sort(out)
	return out
}

// TestPropagation says, for headers that come in, whether the request is sampled and what is
// forwarded then. Its first group are the cases of the W3C's own test suite (test.py of
// w3c/trace-context).
func TestPropagation(t *testing.T) {
	const root, renewed = "traceparent: 00-TRACE-SPAN-01", "traceparent: 00-" + id + "-SPAN-01"
	for name, tc := range map[string]struct {
		in   []string
		want []string
	}{
		"nothing":                         {nil, []string{root}},
		"traceparent":                     {[]string{"traceparent: " + w3c}, []string{renewed}},
		"any case of the name":            {[]string{"TraceParent: " + w3c}, []string{renewed}},
		"other name":                      {[]string{"trace-parent: " + w3c}, []string{root, "trace-parent: " + w3c}},
		"twice":                           {[]string{"traceparent: " + w3c, "traceparent: " + w3c}, []string{root}},
		"random flag":                     {[]string{"traceparent: 00-" + id + "-" + span + "-03"}, []string{"traceparent: 00-" + id + "-SPAN-03"}},
		"unknown flags":                   {[]string{"traceparent: 00-" + id + "-" + span + "-ff"}, []string{"traceparent: 00-" + id + "-SPAN-03"}},
		"version 00 with more":            {[]string{"traceparent: " + w3c + "-what"}, []string{root}},
		"version cc":                      {[]string{"traceparent: cc-" + id + "-" + span + "-01"}, []string{renewed}},
		"version cc with more":            {[]string{"traceparent: cc-" + id + "-" + span + "-01-what"}, []string{renewed}},
		"version cc with more, no dash":   {[]string{"traceparent: cc-" + id + "-" + span + "-01.what"}, []string{root}},
		"version ff":                      {[]string{"traceparent: ff-" + id + "-" + span + "-01"}, []string{root}},
		"version with a bad character":    {[]string{"traceparent: .0-" + id + "-" + span + "-01"}, []string{root}},
		"version in upper case":           {[]string{"traceparent: CC-" + id + "-" + span + "-01"}, []string{root}},
		"version too long":                {[]string{"traceparent: 000-" + id + "-" + span + "-01"}, []string{root}},
		"version too short":               {[]string{"traceparent: 0-" + id + "-" + span + "-01"}, []string{root}},
		"trace of zeros":                  {[]string{"traceparent: 00-00000000000000000000000000000000-" + span + "-01"}, []string{root}},
		"trace in upper case":             {[]string{"traceparent: 00-" + strings.ToUpper(id) + "-" + span + "-01"}, []string{root}},
		"trace too long":                  {[]string{"traceparent: 00-" + id + "0-" + span + "-01"}, []string{root}},
		"trace too short":                 {[]string{"traceparent: 00-" + id[1:] + "-" + span + "-01"}, []string{root}},
		"span of zeros":                   {[]string{"traceparent: 00-" + id + "-0000000000000000-01"}, []string{root}},
		"span with a bad character":       {[]string{"traceparent: 00-" + id + "-" + span[1:] + ".-01"}, []string{root}},
		"span too long":                   {[]string{"traceparent: 00-" + id + "-" + span + "0-01"}, []string{root}},
		"flags with a bad character":      {[]string{"traceparent: 00-" + id + "-" + span + "-.0"}, []string{root}},
		"flags too short":                 {[]string{"traceparent: 00-" + id + "-" + span + "-1"}, []string{root}},
		"no flags":                        {[]string{"traceparent: 00-" + id + "-" + span}, []string{root}},
		"empty":                           {[]string{"traceparent: "}, []string{root}},
		"not sampled":                     {[]string{"traceparent: 00-" + id + "-" + span + "-00", "tracestate: foo=1"}, nil},
		"state":                           {[]string{"traceparent: " + w3c, "tracestate: foo=1,bar@x=2"}, []string{renewed, "tracestate: foo=1,bar@x=2"}},
		"state in two":                    {[]string{"traceparent: " + w3c, "tracestate: foo=1", "tracestate: bar=2"}, []string{renewed, "tracestate: bar=2", "tracestate: foo=1"}},
		"state in five":                   {append([]string{"traceparent: " + w3c}, slices.Repeat([]string{"tracestate: "}, 5)...), []string{renewed}},
		"empty state":                     {[]string{"traceparent: " + w3c, "tracestate: "}, []string{renewed, "tracestate: "}},
		"state without traceparent":       {[]string{"tracestate: foo=1"}, []string{root}},
		"state with a wrong traceparent":  {[]string{"traceparent: x", "tracestate: foo=1"}, []string{root}},
		"state with a key twice":          {[]string{"traceparent: " + w3c, "tracestate: foo=1,foo=1"}, []string{renewed}},
		"state with a key of upper case":  {[]string{"traceparent: " + w3c, "tracestate: FOO=1"}, []string{renewed}},
		"state with a bad key":            {[]string{"traceparent: " + w3c, "tracestate: foo.bar=1"}, []string{renewed}},
		"state with an empty key":         {[]string{"traceparent: " + w3c, "tracestate: =1"}, []string{renewed}},
		"state with a bad tenant":         {[]string{"traceparent: " + w3c, "tracestate: foo@=1,bar=2"}, []string{renewed}},
		"state with two tenants":          {[]string{"traceparent: " + w3c, "tracestate: foo@@bar=1"}, []string{renewed}},
		"state with a control character":  {[]string{"traceparent: " + w3c, "tracestate: foo=\x1b[2J"}, []string{renewed}},
		"state without an equals sign":    {[]string{"traceparent: " + w3c, "tracestate: foo"}, []string{renewed}},
		"state with spaces around commas": {[]string{"traceparent: " + w3c, "tracestate: foo=1 \t , \t bar=2, "}, []string{renewed, "tracestate: foo=1 \t , \t bar=2, "}},
		"state of 33":                     {[]string{"traceparent: " + w3c, "tracestate: " + members(33)}, []string{renewed}},
		"state of 32":                     {[]string{"traceparent: " + w3c, "tracestate: " + members(32)}, []string{renewed, "tracestate: " + members(32)}},
		"state with a long value":         {[]string{"traceparent: " + w3c, "tracestate: foo=" + strings.Repeat("t", 257)}, []string{renewed}},

		"b3":                     {[]string{"b3: " + id + "-" + span + "-1"}, []string{"b3: " + id + "-SPAN-1-" + span}},
		"b3 with a parent":       {[]string{"B3: " + id + "-" + span + "-1-" + span}, []string{"b3: " + id + "-SPAN-1-" + span}},
		"b3 of 64 bits":          {[]string{"b3: " + short + "-" + span + "-d"}, []string{"b3: " + short + "-SPAN-d-" + span}},
		"b3 leaves it open":      {[]string{"b3: " + id + "-" + span}, []string{"b3: " + id + "-SPAN-1-" + span}},
		"b3 refuses":             {[]string{"b3: " + id + "-" + span + "-0"}, nil},
		"b3 only refuses":        {[]string{"b3: 0"}, nil},
		"b3 only asks":           {[]string{"b3: 1"}, []string{"b3: TRACE-SPAN-1"}},
		"b3 with a bad decision": {[]string{"b3: " + id + "-" + span + "-2"}, []string{root}},
		"b3 with more":           {[]string{"b3: " + id + "-" + span + "-1-" + span + "-1"}, []string{root}},
		"b3 of zeros":            {[]string{"b3: 0000000000000000-" + span + "-1"}, []string{root}},
		"b3 in upper case":       {[]string{"b3: " + strings.ToUpper(id) + "-" + span + "-1"}, []string{root}},
		"b3 of 24 digits":        {[]string{"b3: " + id[:24] + "-" + span + "-1"}, []string{root}},
		"b3 is empty":            {[]string{"b3: "}, []string{root}},

		"multi": {
			[]string{"X-B3-TraceId: " + id, "X-B3-SpanId: " + span, "X-B3-Sampled: 1"},
			[]string{"x-b3-parentspanid: " + span, "x-b3-sampled: 1", "x-b3-spanid: SPAN", "x-b3-traceid: " + id},
		},
		"multi of 64 bits, with a parent, debug": {
			[]string{"X-B3-TraceId: " + short, "X-B3-SpanId: " + span, "X-B3-ParentSpanId: " + short, "X-B3-Flags: 1"},
			[]string{"x-b3-flags: 1", "x-b3-parentspanid: " + span, "x-b3-spanid: SPAN", "x-b3-traceid: " + short},
		},
		"multi leaves it open": {
			[]string{"X-B3-TraceId: " + id, "X-B3-SpanId: " + span},
			[]string{"x-b3-parentspanid: " + span, "x-b3-sampled: 1", "x-b3-spanid: SPAN", "x-b3-traceid: " + id},
		},
		"multi, old":            {[]string{"X-B3-Sampled: true"}, []string{"x-b3-sampled: 1", "x-b3-spanid: SPAN", "x-b3-traceid: TRACE"}},
		"multi refuses":         {[]string{"X-B3-TraceId: " + id, "X-B3-SpanId: " + span, "X-B3-Sampled: 0"}, nil},
		"multi, old, refuses":   {[]string{"X-B3-Sampled: false"}, nil},
		"multi, d is for b3":    {[]string{"X-B3-Sampled: d"}, []string{root}},
		"multi without a span":  {[]string{"X-B3-TraceId: " + id, "X-B3-Sampled: 1"}, []string{root}},
		"multi without a trace": {[]string{"X-B3-SpanId: " + span, "X-B3-Sampled: 1"}, []string{root}},
		"multi, only a parent":  {[]string{"X-B3-ParentSpanId: " + span}, []string{root}},
		"multi, bad parent":     {[]string{"X-B3-TraceId: " + id, "X-B3-SpanId: " + span, "X-B3-ParentSpanId: x"}, []string{root}},
		"multi, bad flags":      {[]string{"X-B3-Flags: 2"}, []string{root}},
		"multi twice":           {[]string{"X-B3-Sampled: 1", "X-B3-Sampled: 1"}, []string{root}},

		"all, one trace": {
			[]string{"traceparent: " + w3c, "b3: " + id + "-" + span + "-1", "X-B3-TraceId: " + id, "X-B3-SpanId: " + span, "X-B3-Sampled: 1"},
			[]string{"b3: " + id + "-SPAN-1-" + span, renewed, "x-b3-parentspanid: " + span, "x-b3-sampled: 1", "x-b3-spanid: SPAN", "x-b3-traceid: " + id},
		},
		"W3C before B3": {
			[]string{"b3: " + short + "-" + span + "-0", "traceparent: " + w3c},
			[]string{"b3: " + short + "-" + span + "-0", renewed},
		},
		"B3 if the W3C's is wrong": {
			[]string{"b3: " + id + "-" + span + "-1", "traceparent: x", "tracestate: foo=1"},
			[]string{"b3: " + id + "-SPAN-1-" + span},
		},
		"wrong B3 beside the W3C's": {
			[]string{"b3: x", "traceparent: " + w3c, "X-B3-TraceId: x"},
			[]string{renewed},
		},
		"B3's decision beside the W3C's": {
			[]string{"b3: 0", "traceparent: " + w3c},
			[]string{"b3: 0", renewed},
		},
	} {
		t.Run(name, func(t *testing.T) {
			trace := Begin(carry(tc.in...), all, true)
			if trace == nil {
				if tc.want != nil {
					t.Fatalf("%q is not sampled, want %q forwarded", tc.in, tc.want)
				}
				return
			}
			slices.Sort(tc.want)
			if diff := cmp.Diff(tc.want, forwarded(trace, tc.in)); diff != "" {
				t.Errorf("%q is forwarded as (-want +got):\n%s", tc.in, diff)
			}
			if trace.ID == (ID{}) || trace.Span == (SpanID{}) || trace.Client == trace.Span || trace.Flags&FlagSampled == 0 {
				t.Errorf("%q: the trace is %+v", tc.in, trace)
			}
		})
	}
}

// members returns a tracestate of n members.
func members(n int) string {
	var out []string
	for i := range n {
		out = append(out, "k"+string(rune('a'+i/10))+string(rune('0'+i%10))+"=1")
	}
	return strings.Join(out, ",")
}

// TestDecision says who decides.
func TestDecision(t *testing.T) {
	for name, tc := range map[string]struct {
		in       string
		sampling mesh.TraceSampling
		begins   bool
		want     bool
	}{
		"rate":                               {"", all, true, true},
		"no rate":                            {"", asked, true, false},
		"another agent has decided":          {"", all, false, false},
		"caller":                             {"traceparent: " + w3c, asked, false, true},
		"off":                                {"traceparent: " + w3c, off, true, false},
		"caller refuses":                     {"b3: 0", all, true, false},
		"caller leaves it open":              {"b3: " + id + "-" + span, all, true, true},
		"caller leaves it open, no rate":     {"b3: " + id + "-" + span, asked, true, false},
		"caller leaves it open, agent too":   {"b3: " + id + "-" + span, all, false, false},
		"what is wrong is no decision":       {"traceparent: x", asked, true, false},
		"what is wrong is no decision, rate": {"traceparent: x", all, true, true},
	} {
		var lines []string
		if tc.in != "" {
			lines = []string{tc.in}
		}
		if got := Begin(carry(lines...), tc.sampling, tc.begins) != nil; got != tc.want {
			t.Errorf("%s: sampled %v, want %v", name, got, tc.want)
		}
	}
	const n, rate = 20_000, 0.25
	sampled := 0
	for range n {
		if Begin(new(Carrier), mesh.TraceSampling{PerMillion: rate * 1_000_000}, true) != nil {
			sampled++
		}
	}
	// Six standard deviations of a binomial distribution.
	if got := float64(sampled) / n; got < rate-0.0184 || got > rate+0.0184 {
		t.Errorf("%.3f of the requests are sampled, want %.3f", got, rate)
	}
}

func TestState(t *testing.T) {
	long := "foo=" + strings.Repeat("t", 254) + ",bar=" + strings.Repeat("t", 254)
	for _, tc := range []struct {
		in   []string
		want string
	}{
		{[]string{"foo=1", "", "bar=2"}, "foo=1,bar=2"},
		{[]string{long}, ""}, // it is forwarded nevertheless
		{nil, ""},
	} {
		lines := []string{"traceparent: " + w3c}
		for _, s := range tc.in {
			lines = append(lines, "tracestate: "+s)
		}
		trace := Begin(carry(lines...), asked, false)
		if trace.State != tc.want || slices.Contains(trace.Remove, "tracestate") {
			t.Errorf("tracestate %q becomes %q in the trace, and %q are removed, want %q and traceparent", tc.in, trace.State, trace.Remove, tc.want)
		}
	}
}

// TestNotSampledCostsNothing: requests without a trace, or whose caller refuses one, allocate
// nothing.
func TestNotSampledCostsNothing(t *testing.T) {
	for name, lines := range map[string][]string{
		"no context": {"host: a", "user-agent: b", "accept: */*", "x-request-id: c", "content-type: text/plain"},
		"refused":    {"host: a", "traceparent: 00-" + id + "-" + span + "-00", "tracestate: foo=1", "b3: 0"},
		"wrong":      {"traceparent: " + strings.Repeat("x", 60_000), "b3: -", "x-b3-traceid: " + strings.Repeat("0", 60_000)},
	} {
		var names, values []string
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			names, values = append(names, name), append(values, value)
		}
		if got := testing.AllocsPerRun(100, func() {
			var c Carrier
			for i := range names {
				c.Add(names[i], values[i])
			}
			if Begin(&c, asked, true) != nil {
				t.Error(name + ": it is sampled")
			}
		}); got != 0 {
			t.Errorf("%s: %v allocations, want 0", name, got)
		}
	}
}

// TestLargeHeads: a head that is nearly at a limit is not enlarged.
func TestLargeHeads(t *testing.T) {
	for name, tc := range map[string]struct {
		fields, size int
		want         bool
	}{
		"usual":  {100, 100, true},
		"long":   {3, 20 << 10, false},
		"number": {250, 10, false},
	} {
		c := carry("traceparent: " + w3c)
		for range tc.fields {
			c.Add("x", strings.Repeat("x", tc.size))
		}
		if got := Begin(c, all, true) != nil; got != tc.want {
			t.Errorf("%s: sampled %v, want %v", name, got, tc.want)
		}
	}
}

// FuzzBegin: whatever the headers are, what is forwarded can be read again, as the same
// trace.
func FuzzBegin(f *testing.F) {
	f.Add(w3c, "foo=1", "", "", "", "")
	f.Add("", "", id+"-"+span+"-d-"+span, "", "", "")
	f.Add("", "", "", short, span, "1")
	f.Add("cc-"+id+"-"+span+"-01-x", "a@b=1", "0", id, span, "true")
	f.Fuzz(func(t *testing.T, parent, state, b3, trace, span, decision string) {
		in := http.Header{}
		var lines []string
		for name, value := range map[string]string{"traceparent": parent, "tracestate": state, "b3": b3, "X-B3-TraceId": trace, "X-B3-SpanId": span, "X-B3-Sampled": decision} {
			if value != "" {
				in.Set(name, value)
				lines = append(lines, name+": "+value)
			}
		}
		made := Begin(carry(lines...), all, true)
		if made == nil {
			return
		}
		if len(made.State) > MaxState {
			t.Errorf("a tracestate of %d bytes is kept, want at most %d", len(made.State), MaxState)
		}
		var out Carrier
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			if !slices.Contains(made.Remove, strings.ToLower(name)) {
				out.Add(name, value)
			}
		}
		for _, f := range made.Add {
			out.Add(f.Name, f.Value)
		}
		next := Begin(&out, asked, false)
		if next == nil {
			t.Fatalf("%q is forwarded with %+v, which is not sampled", lines, made.Add)
		}
		if next.ID != made.ID || next.Parent != made.Span {
			t.Errorf("%q is forwarded with %+v, which is read as trace %s of span %s, want %s of %s", lines, made.Add, next.ID, next.Parent, made.ID, made.Span)
		}
	})
}

// BenchmarkNotSampled is what tracing adds to a request that is not sampled: its fields are
// looked at.
func BenchmarkNotSampled(b *testing.B) {
	fields := [][2]string{
		{"host", "web"},
		{"user-agent", "curl/8"},
		{"accept", "*/*"},
		{"accept-encoding", "gzip"},
		{"content-type", "application/json"},
		{"x-request-id", "1"},
		{"cookie", "a=b"},
		{"authorization", "Bearer x"},
		{"traceparent", "00-" + id + "-" + span + "-00"},
		{"tracestate", "a=1"},
	}
	b.ReportAllocs()
	for b.Loop() {
		var c Carrier
		for _, f := range fields {
			c.Add(f[0], f[1])
		}
		if Begin(&c, all, true) != nil {
			b.Fatal("it is sampled")
		}
	}
}
