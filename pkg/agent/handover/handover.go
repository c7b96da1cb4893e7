// Package handover is the protocol by which a new agent takes a node over from the
// running one, while both run:
//
//	successor              predecessor
//	{"kind":"hello","kernelPaths":true}
//	                    →                       the predecessor does not end before the successor has asked
//	{"kind":"release"}  →                       it stops everything that only one agent may do
//	                    ←  {"kind":"released","kernelPaths":true}
//	                                            pins, sockets and ports are free; it still carries traffic
//	{"kind":"taken"}    →                       new connections go to the successor; the predecessor drains
//
// The connection stays open for as long as the successor runs. If it ends before
// "taken", the predecessor takes everything back.
package handover

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// State is what a predecessor knows and its successor cannot find out.
type State struct {
	// PreMesh is the number of connections, by pod UID, that were opened before the pod
	// was enrolled. Connections that the predecessor carries do not count.
	PreMesh map[string]uint32 `json:"preMesh,omitempty"`
	// Addresses are the addresses that pods use. The successor must know their workloads
	// and services before a pod connects to them.
	Addresses []netip.Addr `json:"addresses,omitempty"`
}

// MaxAddresses bounds State.Addresses to those that were used last. It is more than a
// node's pods use at a time, and the list is far below maxMessage.
const MaxAddresses = 8192

// The kinds of messages.
const (
	kindHello    = "hello"
	kindRelease  = "release"
	kindReleased = "released"
	kindTaken    = "taken"
)

type message struct {
	Kind  string `json:"kind"`
	State *State `json:"legacy,omitempty"` // agents of earlier versions use this key
	// KernelPaths: the sender keeps the kernel paths that it finds. v0.1.0 knows none: its programs
	// take the SYNs of such connections for those of a client outside the mesh, and it takes no path
	// back that a policy does not allow any more.
	KernelPaths bool `json:"kernelPaths,omitempty"`
}

// maxMessage bounds a message in bytes. 4096 pods and MaxAddresses need less.
const maxMessage = 1 << 20

// link is one end of the connection.
type link struct {
	conn net.Conn
	in   *bufio.Reader
}

func newLink(conn net.Conn) *link { return &link{conn, bufio.NewReaderSize(conn, 4096)} }

func (l *link) send(m message) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = l.conn.Write(append(text, '\n'))
	return err
}

// receive reads a message. It fails if the message has another kind.
func (l *link) receive(kind string) (message, error) {
	m, err := read(l.in)
	if err == nil && m.Kind != kind {
		err = fmt.Errorf("the other agent said %.20q, not %q: is it of another version?", m.Kind, kind)
	}
	return m, err
}

// read reads one line and decodes it as a message.
func read(in *bufio.Reader) (m message, err error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxMessage:
			return m, errors.New("the other agent's message is too long")
		case err == nil:
			return m, json.Unmarshal(line, &m)
		case !errors.Is(err, bufio.ErrBufferFull):
			return m, err
		}
	}
}

// Predecessor is a successor's connection to the agent that has the node.
type Predecessor struct {
	link        *link
	kernelPaths bool
}

// KernelPaths reports, after Release, whether the predecessor keeps the kernel paths that it
// finds when it takes the node back.
func (p *Predecessor) KernelPaths() bool { return p.kernelPaths }

// Find connects to the agent that listens at path, and announces that Release will
// follow. It returns nil if there is no such agent.
func Find(path string) (*Predecessor, error) {
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("ask the running agent for the node: %w", err)
	}
	p := &Predecessor{link: newLink(conn)}
	if err := p.link.send(message{Kind: kindHello, KernelPaths: true}); err != nil {
		p.Close()
		return nil, fmt.Errorf("ask the running agent for the node: %w", err)
	}
	return p, nil
}

// Release asks the predecessor to release what only one agent may hold, and returns when
// it has done so. It fails when ctx ends, for example because the predecessor hangs.
func (p *Predecessor) Release(ctx context.Context) (State, error) {
	stop := context.AfterFunc(ctx, func() { _ = p.link.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var m message
	err := p.link.send(message{Kind: kindRelease})
	if err == nil {
		m, err = p.link.receive(kindReleased)
	}
	if err != nil {
		return State{}, fmt.Errorf("the running agent does not release the node: %w", err)
	}
	p.kernelPaths = m.KernelPaths
	if m.State == nil {
		return State{}, nil
	}
	return *m.State, nil
}

// Gone reports whether the predecessor has closed the connection: it has ended, or is
// about to. Do not call it during Release.
func (p *Predecessor) Gone() bool {
	conn, ok := p.link.conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	n := 0
	if rerr := raw.Control(func(fd uintptr) {
		n, _, err = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	}); rerr != nil {
		return true
	}
	return n == 0 && err != unix.EAGAIN
}

// Taken tells the predecessor that it gets no new connections any more.
func (p *Predecessor) Taken() error { return p.link.send(message{Kind: kindTaken}) }

// Close closes the connection. A predecessor that has received Taken then restarts.
func (p *Predecessor) Close() { _ = p.link.conn.Close() }

// Successor is the predecessor's connection to an agent that asks for the node.
type Successor struct {
	link        *link
	kernelPaths bool
}

// KernelPaths reports whether the successor keeps the kernel paths that it finds.
func (s *Successor) KernelPaths() bool { return s.kernelPaths }

// Released tells the successor that it may have the node.
func (s *Successor) Released(last State) error {
	return s.link.send(message{Kind: kindReleased, State: &last, KernelPaths: true})
}

// Taken waits until the successor has taken the node. It fails if the successor ends or
// Close is called.
func (s *Successor) Taken() error {
	_, err := s.link.receive(kindTaken)
	return err
}

// Ended waits until the successor has ended or Close is called.
func (s *Successor) Ended() { _, _ = io.Copy(io.Discard, s.link.in) }

// Close closes the connection.
func (s *Successor) Close() { _ = s.link.conn.Close() }
