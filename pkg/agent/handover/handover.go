// Package handover is how a new agent takes a node over from the one that runs,
// while both run:
//
//	successor              predecessor
//	{"kind":"hello"}    →                       it does not end before the successor has asked
//	{"kind":"release"}  →                       it stops whatever only one agent may do
//	                    ←  {"kind":"released"}  pins, sockets and ports are free; it carries traffic still
//	{"kind":"taken"}    →                       new connections are the successor's: it drains
//
// The connection stays open for as long as the successor lives. When it ends
// before "taken", the predecessor takes everything back.
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

// State is what a predecessor knows and its successor could not find out.
type State struct {
	// PreMesh counts by a pod's UID the connections that were opened before the
	// pod was enrolled: those that the predecessor carries are none.
	PreMesh map[string]uint32 `json:"preMesh,omitempty"`
	// Addresses are those that pods use: the successor has to know whose they are
	// before a pod connects to them.
	Addresses []netip.Addr `json:"addresses,omitempty"`
}

// MaxAddresses bounds State.Addresses, to those used last: more than a node's pods talk
// to at a time, and far below maxMessage.
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
	State *State `json:"legacy,omitempty"` // agents of earlier versions know it by this key
}

// maxMessage is above what 4096 pods and MaxAddresses take.
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

// receive reads a message that must be of kind.
func (l *link) receive(kind string) (message, error) {
	m, err := read(l.in)
	if err == nil && m.Kind != kind {
		err = fmt.Errorf("the other agent said %.20q, not %q: is it of another version?", m.Kind, kind)
	}
	return m, err
}

// read reads a line with a message.
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

// Predecessor is the agent that has the node, as its successor sees it.
type Predecessor struct{ link *link }

// Find connects to the agent that listens at path, and tells it that Release
// will be asked for. Nil: there is none.
func Find(path string) (*Predecessor, error) {
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("ask the running agent for the node: %w", err)
	}
	p := &Predecessor{newLink(conn)}
	if err := p.link.send(message{Kind: kindHello}); err != nil {
		p.Close()
		return nil, fmt.Errorf("ask the running agent for the node: %w", err)
	}
	return p, nil
}

// Release has the predecessor let go of what only one agent may hold, and
// returns when it has. A predecessor that hangs has not by ctx's end.
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
	if m.State == nil {
		return State{}, nil
	}
	return *m.State, nil
}

// Gone reports whether the predecessor has hung up: it has ended, or is about to.
// It is not to be called while Release is under way.
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

// Taken tells the predecessor that new connections do not come to it any more.
func (p *Predecessor) Taken() error { return p.link.send(message{Kind: kindTaken}) }

// Close ends the connection. A predecessor that was told Taken starts anew then.
func (p *Predecessor) Close() { _ = p.link.conn.Close() }

// Successor is an agent that asks for the node.
type Successor struct{ link *link }

// Released tells the successor that it may have the node.
func (s *Successor) Released(last State) error {
	return s.link.send(message{Kind: kindReleased, State: &last})
}

// Taken waits until the successor has taken the node. An error: it has ended, or
// Close was called.
func (s *Successor) Taken() error {
	_, err := s.link.receive(kindTaken)
	return err
}

// Ended waits until the successor has ended, or Close was called.
func (s *Successor) Ended() { _, _ = io.Copy(io.Discard, s.link.in) }

// Close hangs up.
func (s *Successor) Close() { _ = s.link.conn.Close() }
