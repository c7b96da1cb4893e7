package light

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/codec"
)

// streamID is that of the only stream of a connection.
const streamID = 1

// stream is an agent.
type stream struct {
	all *Agents
	cfg *tls.Config

	reads   *http2.Framer
	message []byte // what has come of a message that several frames have
	unread  uint32 // bytes since the last window update
	synced  bool

	mu     sync.Mutex // of what follows
	out    *bufio.Writer
	writes *http2.Framer
	nonce  uint64 // of the newest delta
	owed   bool   // it is to be answered when the timer has ended
	timer  *time.Timer
}

// open begins the stream.
func (s *stream) open(conn net.Conn, uses []netip.Addr) error {
	over := tls.Client(conn, s.cfg)
	if err := over.Handshake(); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	s.cfg = nil
	s.out = bufio.NewWriterSize(over, 512)
	s.reads, s.writes = http2.NewFramer(nil, over), http2.NewFramer(s.out, nil)
	s.reads.SetReuseFrames()
	var head bytes.Buffer
	fields := hpack.NewEncoder(&head)
	for _, f := range [][2]string{
		{":method", "POST"},
		{":scheme", "https"},
		{":path", pb.Control_Sync_FullMethodName},
		{":authority", control.ServerName},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
		{"user-agent", "light"},
	} {
		_ = fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_, _ = s.out.WriteString(http2.ClientPreface)
	_ = s.writes.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: control.AgentWindow})
	_ = s.writes.WriteWindowUpdate(0, control.AgentWindow-65535)
	_ = s.writes.WriteHeaders(http2.HeadersFrameParam{StreamID: streamID, BlockFragment: head.Bytes(), EndHeaders: true})
	return s.send(&pb.SyncRequest{
		Subscribe: codec.EncodeAddrs(uses),
		Agent:     &pb.Agent{Kinds: []string{control.KindRoute, control.KindRanges, control.KindAuthz, control.KindEgress}, LateAnswers: true},
	})
}

// send writes a request, and what was not flushed before. The caller holds mu, or is alone.
func (s *stream) send(r *pb.SyncRequest) error {
	b, err := proto.Marshal(r)
	if err != nil {
		return err
	}
	_ = s.writes.WriteData(streamID, false, append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...))
	return s.out.Flush()
}

// read reads until the connection ends.
func (s *stream) read() error {
	for {
		frame, err := s.reads.ReadFrame()
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case *http2.DataFrame:
			err = s.data(f)
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = s.control(s.writes.WriteSettingsAck)
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = s.control(func() error { return s.writes.WritePing(true, f.Data) })
			}
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				err = errors.New("the controller has ended the stream")
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			err = fmt.Errorf("the controller has ended the stream: %v", f)
		}
		if err != nil {
			return err
		}
	}
}

func (s *stream) control(write func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = write()
	return s.out.Flush()
}

// data takes in a frame. Windows are opened again as gRPC does it: when a quarter was read.
func (s *stream) data(f *http2.DataFrame) error {
	if s.unread += f.Length; s.unread >= control.AgentWindow/4 {
		err := s.control(func() error {
			_ = s.writes.WriteWindowUpdate(0, s.unread)
			return s.writes.WriteWindowUpdate(streamID, s.unread)
		})
		if err != nil {
			return err
		}
		s.unread = 0
	}
	b := f.Data()
	if len(s.message) > 0 {
		s.message = append(s.message, b...)
		b = s.message
	}
	for {
		const prefix = 5
		if len(b) < prefix || len(b)-prefix < int(binary.BigEndian.Uint32(b[1:])) {
			s.message = append([]byte(nil), b...)
			return nil
		}
		size := prefix + int(binary.BigEndian.Uint32(b[1:]))
		if err := s.delta(b[prefix:size]); err != nil {
			return err
		}
		b = b[size:]
	}
}

// delta takes in a delta: the fields that say how to answer it.
func (s *stream) delta(b []byte) error {
	var nonce, within uint64
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var v uint64
		if kind == protowire.VarintType {
			v, n = protowire.ConsumeVarint(b)
		} else {
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch number {
		case fieldNonce:
			nonce = v
		case fieldResources:
			s.all.Resources.Add(1)
		case fieldInitialSyncDone:
			if !s.synced {
				s.synced = true
				s.all.synced.Add(1)
			}
		case fieldAnswerWithin:
			within = v
		}
	}
	s.all.Deltas.Add(1)
	return s.answer(nonce, time.Duration(within)*time.Millisecond)
}

// Numbers of fields of pb.Delta.
const (
	fieldNonce           = 1
	fieldResources       = 3
	fieldInitialSyncDone = 5
	fieldAnswerWithin    = 376
)

// answer answers a delta now, or with others within this time.
func (s *stream) answer(nonce uint64, within time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nonce = nonce
	switch {
	case within == 0:
		return s.answerNow()
	case s.owed:
		return nil
	case s.timer == nil:
		s.timer = time.AfterFunc(within, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.owed {
				_ = s.answerNow() // the reader notices an error
			}
		})
	default:
		s.timer.Reset(within)
	}
	s.owed = true
	return nil
}

// answerNow answers everything. The caller holds mu.
func (s *stream) answerNow() error {
	if s.owed = false; s.timer != nil {
		s.timer.Stop()
	}
	s.all.Answers.Add(1)
	return s.send(&pb.SyncRequest{Answer: &pb.Answer{Nonce: s.nonce}})
}
