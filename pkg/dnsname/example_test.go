package dnsname_test

import (
	"fmt"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/underlane/underlane/pkg/dnsname"
)

func ExampleParse() {
	name := dnsmessage.MustNewName("www.example.com.")
	head := dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 60}
	message := dnsmessage.Message{
		Header:    dnsmessage.Header{Response: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Answers:   []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: netip.MustParseAddr("192.0.2.1").As4()}}},
	}
	bytes, err := message.Pack()
	if err != nil {
		panic(err)
	}
	answer, err := dnsname.Parse(bytes)
	fmt.Println(answer.Name, answer.Addrs[0].Addr, answer.Addrs[0].TTL, err)
	// Output: www.example.com 192.0.2.1 1m0s <nil>
}
