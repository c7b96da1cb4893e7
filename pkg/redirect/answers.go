package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/underlane/underlane/bpf"
)

// dnsLinks are the names of the hooks that see DNS answers.
var dnsLinks = []string{"sendmsg4", "sendmsg6", "dns_received"}

func (d *programs) dnsHooks() []hook {
	p := &d.objs.UnderlanePrograms
	return []hook{
		{dnsLinks[0], ebpf.AttachCGroupUDP4Sendmsg, p.Sendmsg4},
		{dnsLinks[1], ebpf.AttachCGroupUDP6Sendmsg, p.Sendmsg6},
		{dnsLinks[2], ebpf.AttachCGroupInetIngress, p.DnsReceived},
	}
}

// errDNSOff is returned by Answers if Options.DNS is not set.
var errDNSOff = errors.New("DNS answers are not looked at: Options.DNS is not set")

// attachDNS attaches the hooks that see DNS answers, or detaches those of an earlier agent.
// The node works without them: its destinations are then shown by their addresses.
func (d *programs) attachDNS() {
	if d.opts.DNS {
		for _, h := range d.dnsHooks() {
			if d.dnsErr = d.attach(h); d.dnsErr != nil {
				break
			}
		}
		if d.dnsErr == nil {
			return
		}
		d.log.Warn("destinations outside the mesh have no names from DNS", "cause", d.dnsErr)
	}
	for _, name := range dnsLinks {
		if err := os.Remove(d.linkPin(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("a program is still attached", "program", name, "cause", err)
		}
		if l := d.links[name]; l != nil {
			l.Close()
			delete(d.links, name)
		}
	}
}

// DNS returns why DNS answers are not seen, or nil if they are.
func (d *programs) DNS() error { return d.dnsErr }

// Answers reads the DNS answers that enrolled pods got. Only one process at a time may
// do so, and only one goroutine.
type Answers struct {
	reader  *ring
	unknown *atomic.Uint64
}

// Answers opens the DNS answers. The error is that of DNS, or of the kernel.
func (d *programs) Answers() (*Answers, error) {
	if d.dnsErr != nil {
		return nil, d.dnsErr
	}
	reader, err := openRing(d.objs.DnsAnswers)
	if err != nil {
		return nil, fmt.Errorf("DNS answers: %w", err)
	}
	return &Answers{reader: reader, unknown: &d.unknown.answers}, nil
}

// Close ends the reading.
func (a *Answers) Close() { a.reader.close() }

// Read calls handle for each answer that has come, and does not wait. An answer that a
// program has received is there already. message is the DNS message, cut after 1232 bytes
// and valid only during the call; cookie says which pod has received it.
func (a *Answers) Read(handle func(cookie uint64, message []byte)) error {
	read := func(record []byte) {
		if cookie, message, ok := asAnswer(record); ok {
			handle(cookie, message)
		} else {
			a.unknown.Add(1)
		}
	}
	for {
		more, err := a.reader.read(read)
		if err != nil {
			return fmt.Errorf("DNS answers: %w", err)
		}
		if !more {
			return nil
		}
	}
}

// asAnswer reads a record. It returns false if the program of another version has written it.
func asAnswer(sample []byte) (cookie uint64, message []byte, ok bool) {
	const head = int(unsafe.Sizeof(bpf.UnderlaneDnsAnswer{}))
	if room := len(sample) - head; room != int(bpf.UnderlaneDnsRoomDNS_SMALL) && room != int(bpf.UnderlaneDnsRoomDNS_LARGE) {
		return 0, nil, false
	}
	raw := (*bpf.UnderlaneDnsAnswer)(unsafe.Pointer(unsafe.SliceData(sample)))
	message = sample[head:]
	if raw.Layout != uint32(bpf.UnderlaneLayoutLAYOUT_DNS_ANSWER) || int(raw.Length) > len(message) {
		return 0, nil, false
	}
	return raw.NetnsCookie, message[:raw.Length], true
}
