package script

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// verbs are the steps. Filled in init, for some play others.
var verbs map[string]func(*end, *step) error

func init() {
	verbs = map[string]func(*end, *step) error{
		"send":      (*end).send,
		"drip":      (*end).drip,
		"fill":      (*end).fill,
		"flood":     (*end).flood,
		"urgent":    (*end).urgent,
		"recv":      (*end).recv,
		"end":       (*end).end,
		"quiet":     (*end).quiet,
		"pause":     (*end).pause,
		"shut":      (*end).shut,
		"close":     (*end).close,
		"reset":     (*end).reset,
		"tell":      (*end).tell,
		"await":     (*end).await,
		"oobinline": func(e *end, _ *step) error { return e.setsockopt(unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) },
		"nagle":     func(e *end, _ *step) error { return e.conn.SetNoDelay(false) },
		"rcvbuf":    func(*end, *step) error { return nil }, // when the socket was made
		"sndbuf":    func(*end, *step) error { return nil },
		"second":    func(*end, *step) error { return nil },
		"repeat":    (*end).repeat,
		"loop":      (*end).loop,
		"dial":      (*end).dialStep,
		"use":       (*end).use,
	}
	maps.Copy(verbs, h2verbs())
}

// write writes all, and notes what stops it.
func (e *end) write(what string, b []byte) error {
	if err := e.conn.SetWriteDeadline(e.deadline()); err != nil {
		return err
	}
	if _, err := e.conn.Write(b); err != nil {
		e.note("%s: %s", what, how(err))
		return errEnded
	}
	return nil
}

func (e *end) send(s *step) error { return e.write("send", []byte(s.text())) }

func (e *end) drip(s *step) error {
	pause, err := s.duration(1, time.Millisecond)
	if err != nil {
		return err
	}
	for _, b := range []byte(s.args[0].text) {
		if err := e.write("drip", []byte{b}); err != nil {
			return err
		}
		time.Sleep(pause)
	}
	return nil
}

func (e *end) fill(s *step) error {
	n, err := s.number(0)
	if err != nil {
		return err
	}
	b := []byte(pattern(64 << 10))
	for n > 0 {
		_ = e.conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		m, err := e.conn.Write(b[:min(n, len(b))])
		if n -= m; errors.Is(err, os.ErrDeadlineExceeded) {
			if m > 0 {
				continue
			}
			e.note("fill: no more goes")
			return nil
		} else if err != nil {
			e.note("fill: %s", how(err))
			return errEnded
		}
	}
	e.note("fill: all went")
	return nil
}

// flood writes on while the script goes on.
func (e *end) flood(s *step) error {
	n, err := s.number(0)
	c, b := e.conn.TCPConn, []byte(pattern(64<<10))
	_ = c.SetWriteDeadline(time.Time{})
	go func() {
		for ; n > 0; n -= len(b) {
			if _, err := c.Write(b[:min(n, len(b))]); err != nil {
				return
			}
		}
	}()
	return err
}

func (e *end) urgent(s *step) error {
	return e.control(func(fd int) error { return unix.Sendto(fd, []byte(s.text()), unix.MSG_OOB, nil) })
}

func (e *end) recv(s *step) error {
	var enough func([]byte) int
	switch {
	case s.word(0) == "oob":
		return e.recvOOB()
	case len(s.args) > 0 && s.args[0].quoted:
		enough = upTo(s.args[0].text)
	case s.word(0) == "head":
		enough = upTo("\r\n\r\n")
	default:
		n, err := s.number(0)
		if err != nil {
			return err
		}
		enough = func(b []byte) int {
			if len(b) < n {
				return -1
			}
			return n
		}
	}
	b, err := e.conn.until(e.deadline(), enough)
	if err == nil {
		e.note("recv %s", shown(b))
		return nil
	}
	e.note("recv %s, then %s", shown(b), how(err))
	return errEnded
}

func upTo(text string) func([]byte) int {
	return func(b []byte) int {
		i := bytes.Index(b, []byte(text))
		if i < 0 {
			return -1
		}
		return i + len(text)
	}
}

func (e *end) recvOOB() error {
	var b [1]byte
	n := 0
	for limit := e.deadline(); ; time.Sleep(time.Millisecond) {
		err := e.control(func(fd int) (err error) {
			n, _, err = unix.Recvfrom(fd, b[:], unix.MSG_OOB)
			return err
		})
		if err == nil {
			break
		}
		if time.Now().After(limit) {
			e.note("recv oob: time-out")
			return errEnded
		}
	}
	e.note("recv oob %s", shown(b[:n]))
	return nil
}

func (e *end) end(*step) error {
	b, err := e.conn.until(e.deadline(), func([]byte) int { return -1 })
	e.note("end %s, %s", shown(b), how(err))
	return nil
}

func (e *end) quiet(s *step) error {
	d, err := s.duration(0, 0)
	if err != nil {
		return err
	}
	b, err := e.conn.until(time.Now().Add(d), func([]byte) int { return -1 })
	if len(b) == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	e.note("not quiet: %s, %s", shown(b), how(err))
	return errEnded
}

func (e *end) pause(s *step) error {
	d, err := s.duration(0, 0)
	time.Sleep(d)
	return err
}

func (e *end) shut(*step) error {
	if err := e.conn.CloseWrite(); err != nil {
		e.note("shut: %s", how(err))
		return errEnded
	}
	return nil
}

func (e *end) close(*step) error { return e.conn.Close() }

func (e *end) reset(*step) error {
	_ = e.conn.SetLinger(0)
	return e.conn.Close()
}

func (e *end) tell(s *step) error {
	e.job.told(s.word(0))
	e.job.say(Event{Tell: s.word(0)})
	return nil
}

func (e *end) await(s *step) error {
	select {
	case <-e.job.mark(s.word(0)):
		return nil
	case <-time.After(e.job.order.Limit):
		e.note("await %s: time-out", s.word(0))
		return errEnded
	}
}

func (e *end) repeat(s *step) error {
	n, err := s.number(0)
	for i := 0; i < n && err == nil; i++ {
		err = e.play(s.body)
	}
	return err
}

func (e *end) loop(s *step) error {
	for n := 0; ; n++ {
		if n > 0 && len(e.conn.buf) == 0 {
			e.job.settle()
		}
		if e.conn.idle(e.job.ctx) {
			return nil
		}
		if e.silent() {
			if h := how(e.conn.err); h != "fin" {
				e.note("end of the loop: %s", h)
			}
			return nil
		}
		if err := e.play(s.body); err != nil {
			return err
		}
	}
}

func (e *end) dialStep(s *step) error {
	return e.dial(s.word(0), s.has("own"), s.has("second"))
}

func (e *end) use(s *step) error {
	c := e.conns[s.word(0)]
	if c == nil {
		return fmt.Errorf("use: there is no connection %q", s.word(0))
	}
	if e.conn, e.name = c, s.word(0); e.name == "first" {
		e.name = ""
	}
	return nil
}

func (e *end) setsockopt(level, opt, value int) error {
	return e.control(func(fd int) error { return unix.SetsockoptInt(fd, level, opt, value) })
}

func (e *end) control(f func(fd int) error) error {
	rc, err := e.conn.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := rc.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}
