// Package dnsname knows by which names pods know addresses. It reads the answers of DNS
// that pods got, and remembers them for as long as they are valid. It is pure: its callers
// bring the messages and the time.
//
// A name is what the pod's resolver has said: it is for people to read. Whoever controls
// the resolver, or the pod, can make it say anything about any address. So nothing may be
// allowed because of it.
package dnsname

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/underlane/underlane/pkg/tap"
)

// Answer is what a DNS message says of one name.
type Answer struct {
	Name  string // that was asked for, as tap.Hostname returns it
	Addrs []Addr // in the message's order
}

// Addr is an address of a name.
type Addr struct {
	netip.Addr
	TTL time.Duration // for how long it is valid; the shortest of the records that lead to it
}

// Bounds of what is read of one message.
const (
	maxAddrs   = 64
	maxAliases = 16
)

// Parse reads the answer to a question for addresses (RFC 1035, section 4; RFC 3596). It
// follows CNAME records from the name that was asked for to addresses, in whatever order
// the records are. A message that is cut is read as far as it goes. The error says why the
// message says nothing.
func Parse(message []byte) (Answer, error) {
	var p dnsmessage.Parser
	head, err := p.Start(message)
	if err != nil {
		return Answer{}, fmt.Errorf("DNS message: %w", err)
	}
	if !head.Response || head.OpCode != 0 || head.RCode != dnsmessage.RCodeSuccess {
		return Answer{}, fmt.Errorf("DNS message: no answer (response %t, opcode %d, %v)", head.Response, head.OpCode, head.RCode)
	}
	q, err := p.Question()
	if err != nil {
		return Answer{}, fmt.Errorf("DNS message: question: %w", err)
	}
	if q.Class != dnsmessage.ClassINET || q.Type != dnsmessage.TypeA && q.Type != dnsmessage.TypeAAAA {
		return Answer{}, fmt.Errorf("DNS message: a question for %v %v, not for addresses", q.Class, q.Type)
	}
	if err := p.SkipAllQuestions(); err != nil {
		return Answer{}, fmt.Errorf("DNS message: questions: %w", err)
	}
	r := records{aliases: map[string]alias{}}
	r.read(&p)
	return r.answer(q.Name.String())
}

// records are the records of an answer that matter. Their names are in lower case.
type records struct {
	aliases map[string]alias
	addrs   []owned
}

type alias struct {
	to  string
	ttl time.Duration
}

type owned struct {
	owner string
	Addr
}

// read reads until the message ends, or makes no sense any more.
func (r *records) read(p *dnsmessage.Parser) {
	for len(r.addrs) < maxAddrs {
		head, err := p.AnswerHeader()
		if err != nil {
			return
		}
		ttl := time.Duration(head.TTL) * time.Second
		owner := lower(head.Name)
		if head.Class != dnsmessage.ClassINET {
			if p.SkipAnswer() != nil {
				return
			}
			continue
		}
		switch head.Type {
		case dnsmessage.TypeA:
			a, err := p.AResource()
			if err != nil {
				return
			}
			r.addrs = append(r.addrs, owned{owner, Addr{netip.AddrFrom4(a.A), ttl}})
		case dnsmessage.TypeAAAA:
			a, err := p.AAAAResource()
			if err != nil {
				return
			}
			r.addrs = append(r.addrs, owned{owner, Addr{netip.AddrFrom16(a.AAAA).Unmap(), ttl}})
		case dnsmessage.TypeCNAME:
			c, err := p.CNAMEResource()
			if err != nil {
				return
			}
			if len(r.aliases) < maxAliases {
				r.aliases[owner] = alias{lower(c.CNAME), ttl}
			}
		default:
			if p.SkipAnswer() != nil {
				return
			}
		}
	}
}

// answer follows the aliases of the name that was asked for.
func (r *records) answer(asked string) (Answer, error) {
	a := Answer{Name: strings.Clone(tap.Hostname(asked))}
	if a.Name == "" {
		return Answer{}, fmt.Errorf("DNS message: %.300q is no host name", asked)
	}
	name, ttl := strings.ToLower(asked), time.Duration(1<<32)*time.Second
	for range maxAliases + 1 {
		for _, o := range r.addrs {
			if o.owner == name && tells(o.Addr.Addr) {
				a.Addrs = append(a.Addrs, Addr{o.Addr.Addr, min(o.TTL, ttl)})
			}
		}
		next, ok := r.aliases[name]
		if !ok || len(a.Addrs) > 0 {
			break
		}
		name, ttl = next.to, min(ttl, next.ttl)
	}
	if len(a.Addrs) == 0 {
		return Answer{}, fmt.Errorf("DNS message: no address of %s", a.Name)
	}
	return a, nil
}

// tells reports whether the name of an address says where a connection goes.
func tells(a netip.Addr) bool {
	return !a.IsLoopback() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast()
}

func lower(n dnsmessage.Name) string { return strings.ToLower(n.String()) }
