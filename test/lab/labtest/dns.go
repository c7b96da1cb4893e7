package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/dns/dnsmessage"
)

// zone has the addresses of names: NAME=ADDRESS.
type zone map[string][]netip.Addr

func parseZone(args []string) (zone, error) {
	z := zone{}
	for _, arg := range args {
		name, text, _ := strings.Cut(arg, "=")
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, err
		}
		z[name+"."] = append(z[name+"."], addr)
	}
	return z, nil
}

// answer makes the answer to a question: by an alias, as clouds do. A name that is not in
// the zone does not exist.
func (z zone) answer(id uint16, q dnsmessage.Question, ttl uint32) ([]byte, error) {
	head := dnsmessage.Header{ID: id, Response: true, Authoritative: true, RecursionAvailable: true}
	addrs, ok := z[strings.ToLower(q.Name.String())]
	if !ok {
		head.RCode = dnsmessage.RCodeNameError
	}
	b := dnsmessage.NewBuilder(nil, head)
	b.EnableCompression()
	alias := dnsmessage.MustNewName("host-1.cloud.test.")
	err := errors.Join(b.StartQuestions(), b.Question(q), b.StartAnswers())
	if ok {
		err = errors.Join(err, b.CNAMEResource(dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: ttl}, dnsmessage.CNAMEResource{CNAME: alias}))
	}
	for _, a := range addrs {
		h := dnsmessage.ResourceHeader{Name: alias, Class: q.Class, TTL: ttl}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			err = errors.Join(err, b.AResource(h, dnsmessage.AResource{A: a.As4()}))
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			err = errors.Join(err, b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: a.As16()}))
		}
	}
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

// reply makes the answer to a message.
func (z zone) reply(message []byte, ttl uint32) ([]byte, error) {
	var p dnsmessage.Parser
	head, err := p.Start(message)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	return z.answer(head.ID, q, ttl)
}

// serve answers the questions on a connection: RFC 1035, section 4.2.2.
func (z zone) serve(c net.Conn, ttl uint32) {
	for {
		var length uint16
		if binary.Read(c, binary.BigEndian, &length) != nil {
			return
		}
		buf := make([]byte, length)
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
		m, err := z.reply(buf, ttl)
		if err != nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...)); err != nil {
			return
		}
	}
}

func resolver() *cobra.Command {
	var ttl uint32
	cmd := &cobra.Command{
		Use: "resolver ADDRESS:PORT NAME=ADDRESS...", Short: "DNS over UDP and TCP: answers with these addresses, by an alias", Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			z, err := parseZone(args[1:])
			if err != nil {
				return err
			}
			c, err := net.ListenPacket("udp", args[0])
			if err != nil {
				return err
			}
			streams, err := net.Listen("tcp", args[0])
			if err != nil {
				return err
			}
			fmt.Println("resolver listening on", c.LocalAddr())
			defer context.AfterFunc(cmd.Context(), func() { c.Close(); streams.Close() })()
			go func() {
				for {
					c, err := streams.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						z.serve(c, ttl)
					}()
				}
			}()
			for buf := make([]byte, 4096); ; {
				n, from, err := c.ReadFrom(buf)
				if cmd.Context().Err() != nil {
					return nil
				}
				if err != nil {
					return err
				}
				m, err := z.reply(buf[:n], ttl)
				if err != nil {
					continue
				}
				if _, err := c.WriteTo(m, from); err != nil {
					return err
				}
			}
		},
	}
	cmd.Flags().Uint32Var(&ttl, "ttl", 60, "of the answers, in seconds")
	return cmd
}

func forge() *cobra.Command {
	return &cobra.Command{
		Use: "forge FROM:PORT TO:PORT NAME=ADDRESS", Short: "UDP: send a DNS answer that nobody has asked for", Args: cobra.ExactArgs(3),
		RunE: func(_ *cobra.Command, args []string) error {
			z, err := parseZone(args[2:])
			if err != nil {
				return err
			}
			from, err := net.ResolveUDPAddr("udp", args[0])
			if err != nil {
				return err
			}
			to, err := net.ResolveUDPAddr("udp", args[1])
			if err != nil {
				return err
			}
			c, err := net.ListenUDP("udp", from)
			if err != nil {
				return err
			}
			defer c.Close()
			for name, addrs := range z {
				q := dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
				if addrs[0].Is6() {
					q.Type = dnsmessage.TypeAAAA
				}
				m, err := z.answer(1, q, 60)
				if err != nil {
					return err
				}
				if _, err := c.WriteToUDP(m, to); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func ask() *cobra.Command {
	var count int
	cmd := &cobra.Command{
		Use: "ask SERVER:PORT NAME", Short: "DNS over UDP: ask for the name many times, by one socket", Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			name, err := dnsmessage.NewName(args[1] + ".")
			if err != nil {
				return err
			}
			c, err := net.Dial("udp", args[0])
			if err != nil {
				return err
			}
			defer c.Close()
			q := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
			m, err := q.Pack()
			if err != nil {
				return err
			}
			answered := 0
			for buf := make([]byte, 4096); answered < count; answered++ {
				if _, err := c.Write(m); err != nil {
					return err
				}
				_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
				if _, err := c.Read(buf); err != nil {
					return err
				}
			}
			fmt.Println(answered)
			return nil
		},
	}
	cmd.Flags().IntVar(&count, "count", 1, "how often")
	return cmd
}
