package dnsname

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
)

var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// record is a line of a zone file: NAME TTL TYPE VALUE.
func record(t testing.TB, b *dnsmessage.Builder, line string) {
	t.Helper()
	f := strings.Fields(line)
	var ttl uint32
	if _, err := fmt.Sscan(f[1], &ttl); err != nil {
		t.Fatal(err)
	}
	h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(f[0]), Class: dnsmessage.ClassINET, TTL: ttl}
	var err error
	switch f[2] {
	case "A":
		err = b.AResource(h, dnsmessage.AResource{A: netip.MustParseAddr(f[3]).As4()})
	case "AAAA":
		err = b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(f[3]).As16()})
	case "CNAME":
		err = b.CNAMEResource(h, dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(f[3])})
	case "TXT":
		err = b.TXTResource(h, dnsmessage.TXTResource{TXT: []string{f[3]}})
	case "CHAOS":
		h.Class = dnsmessage.ClassCHAOS
		err = b.AResource(h, dnsmessage.AResource{A: netip.MustParseAddr(f[3]).As4()})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func message(t testing.TB, head dnsmessage.Header, question string, kind dnsmessage.Type, lines ...string) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, head)
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		t.Fatal(err)
	}
	if err := b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(question), Type: kind, Class: dnsmessage.ClassINET}); err != nil {
		t.Fatal(err)
	}
	if err := b.StartAnswers(); err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		record(t, &b, line)
	}
	m, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var ok = dnsmessage.Header{ID: 7, Response: true, RecursionAvailable: true}

func TestParse(t *testing.T) {
	a := func(addr string, seconds int) Addr {
		return Addr{netip.MustParseAddr(addr), time.Duration(seconds) * time.Second}
	}
	for name, tc := range map[string]struct {
		head     dnsmessage.Header
		question string
		kind     dnsmessage.Type
		lines    []string
		want     Answer
		err      string
	}{
		"A":    {ok, "db.example.com.", dnsmessage.TypeA, []string{"db.example.com. 60 A 203.0.113.7", "db.example.com. 50 A 203.0.113.8"}, Answer{"db.example.com", []Addr{a("203.0.113.7", 60), a("203.0.113.8", 50)}}, ""},
		"AAAA": {ok, "db.example.com.", dnsmessage.TypeAAAA, []string{"db.example.com. 60 AAAA 2001:db8::7"}, Answer{"db.example.com", []Addr{a("2001:db8::7", 60)}}, ""},
		"a chain, in any order and case": {
			ok, "DB.example.com.", dnsmessage.TypeA,
			[]string{"x.cloud.test. 300 A 203.0.113.7", "Alias.example.net. 9 CNAME X.cloud.test.", "other.test. 60 A 203.0.113.66", "db.EXAMPLE.com. 100 CNAME alias.example.net."},
			Answer{"db.example.com", []Addr{a("203.0.113.7", 9)}},
			"",
		},
		"other types and classes between": {
			ok, "db.example.com.", dnsmessage.TypeA,
			[]string{"db.example.com. 60 TXT text", "db.example.com. 60 CHAOS 203.0.113.9", "db.example.com. 60 A 203.0.113.7"},
			Answer{"db.example.com", []Addr{a("203.0.113.7", 60)}},
			"",
		},
		"mapped":            {ok, "db.example.com.", dnsmessage.TypeAAAA, []string{"db.example.com. 60 AAAA ::ffff:203.0.113.7"}, Answer{"db.example.com", []Addr{a("203.0.113.7", 60)}}, ""},
		"a name of a host":  {ok, "_db.x-1.example.com.", dnsmessage.TypeA, []string{"_db.x-1.example.com. 0 A 203.0.113.7"}, Answer{"_db.x-1.example.com", []Addr{a("203.0.113.7", 0)}}, ""},
		"addresses of this": {ok, "db.example.com.", dnsmessage.TypeA, []string{"db.example.com. 60 A 127.0.0.1", "db.example.com. 60 A 0.0.0.0", "db.example.com. 60 A 224.0.0.1"}, Answer{}, "no address of db.example.com"},
		"of another name":   {ok, "db.example.com.", dnsmessage.TypeA, []string{"evil.example.com. 60 A 203.0.113.7"}, Answer{}, "no address of db.example.com"},
		"a loop":            {ok, "a.test.", dnsmessage.TypeA, []string{"a.test. 60 CNAME b.test.", "b.test. 60 CNAME a.test.", "c.test. 60 A 203.0.113.7"}, Answer{}, "no address of a.test"},
		"no records":        {ok, "db.example.com.", dnsmessage.TypeA, nil, Answer{}, "no address of db.example.com"},
		"the root":          {ok, ".", dnsmessage.TypeA, []string{". 60 A 203.0.113.7"}, Answer{}, "is no host name"},
		"no name of a host": {ok, "a;\x1b.test.", dnsmessage.TypeA, []string{"a;\x1b.test. 60 A 203.0.113.7"}, Answer{}, "is no host name"},
		"another question":  {ok, "db.example.com.", dnsmessage.TypeMX, []string{"db.example.com. 60 A 203.0.113.7"}, Answer{}, "not for addresses"},
		"a question":        {dnsmessage.Header{}, "db.example.com.", dnsmessage.TypeA, nil, Answer{}, "no answer"},
		"a failure":         {dnsmessage.Header{Response: true, RCode: dnsmessage.RCodeNameError}, "db.example.com.", dnsmessage.TypeA, []string{"db.example.com. 60 A 203.0.113.7"}, Answer{}, "no answer"},
		"another opcode":    {dnsmessage.Header{Response: true, OpCode: 5}, "db.example.com.", dnsmessage.TypeA, []string{"db.example.com. 60 A 203.0.113.7"}, Answer{}, "no answer"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(message(t, tc.head, tc.question, tc.kind, tc.lines...))
			if err == nil != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			if diff := cmp.Diff(tc.want, got, compareAddrs); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestParseCut: of a message that is cut what is there counts, and many records are not
// all read.
func TestParseCut(t *testing.T) {
	var lines []string
	for i := range 100 {
		lines = append(lines, fmt.Sprintf("db.example.com. 60 A 203.0.113.%d", i))
	}
	m := message(t, ok, "db.example.com.", dnsmessage.TypeA, lines...)
	if a, err := Parse(m); err != nil || len(a.Addrs) != maxAddrs {
		t.Errorf("%d addresses, %v; want %d", len(a.Addrs), err, maxAddrs)
	}
	if a, err := Parse(m[:12+20+16*10+3]); err != nil || len(a.Addrs) != 10 {
		t.Errorf("cut: %d addresses, %v; want 10", len(a.Addrs), err)
	}
	for n := range 12 + 20 + 16 {
		if _, err := Parse(m[:n]); err == nil {
			t.Errorf("the first %d bytes say something", n)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(message(f, ok, "db.example.com.", dnsmessage.TypeA, "db.example.com. 60 CNAME x.test.", "x.test. 5 A 203.0.113.7"))
	f.Add(message(f, ok, "db.example.com.", dnsmessage.TypeAAAA, "db.example.com. 60 AAAA 2001:db8::7", "db.example.com. 60 TXT text"))
	f.Add([]byte("\x00\x07\x80\x00\x00\x01\x00\x01\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\x01\x02\x03\x04"))
	f.Fuzz(func(t *testing.T, m []byte) {
		a, err := Parse(m)
		if err != nil {
			if a.Name != "" || a.Addrs != nil {
				t.Errorf("%+v and %v", a, err)
			}
			return
		}
		if a.Name == "" || len(a.Name) > 253 || len(a.Addrs) == 0 || len(a.Addrs) > maxAddrs {
			t.Errorf("%d addresses of %q", len(a.Addrs), a.Name)
		}
		for _, c := range a.Name {
			if c <= ' ' || c > '~' || 'A' <= c && c <= 'Z' {
				t.Errorf("name %q", a.Name)
			}
		}
		for _, addr := range a.Addrs {
			if !tells(addr.Addr) || addr.TTL < 0 || addr.Is4In6() {
				t.Errorf("address %v", addr)
			}
		}
		new(Cache).Learn("pod", &a, time.Now())
	})
}
