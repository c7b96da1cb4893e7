package redirect

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
)

// TestSocketToSocket is why Underlane does not move bytes from socket to socket by a program of
// the type sk_msg: docs/ARCHITECTURE.md says what programs would see. If it fails, this kernel does
// something of it better: look at that page anew.
func TestSocketToSocket(t *testing.T) {
	nstest.RequireRoot(t)
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}

	t.Run("splice", func(t *testing.T) {
		for name, c := range map[string]struct {
			moved bool
			want  string
		}{"by TCP": {false, "hello"}, "moved": {true, ""}} {
			client, server := connected(t, c.moved)
			if _, err := unix.Write(client, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 16)
			if n, _, err := unix.Recvfrom(server, buf, unix.MSG_PEEK); string(buf[:max(n, 0)]) != "hello" {
				t.Fatalf("%s: a reader sees %q (%v), want what was sent", name, buf[:max(n, 0)], err)
			}
			var pipe [2]int
			if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			if err := unix.SetNonblock(server, true); err != nil {
				t.Fatal(err)
			}
			_, spliced := unix.Splice(server, nil, pipe[1], nil, len(buf), unix.SPLICE_F_NONBLOCK)
			n, _ := unix.Read(pipe[0], buf)
			if got := string(buf[:max(n, 0)]); got != c.want {
				t.Errorf("%s: splice() reads %q (%v), want %q", name, got, spliced, c.want)
			}
			if c.moved && !errors.Is(spliced, unix.EAGAIN) {
				t.Errorf("moved: splice() says %v, want EAGAIN: it would wait for ever", spliced)
			}
			unix.Close(pipe[0])
			unix.Close(pipe[1])
		}
	})

	t.Run("no reader", func(t *testing.T) {
		const most = 64 << 20
		send := func(moved bool) (sent int) {
			client, _ := connected(t, moved)
			if err := unix.SetNonblock(client, true); err != nil {
				t.Fatal(err)
			}
			for part := make([]byte, 64<<10); sent < most; {
				n, err := unix.Write(client, part)
				if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM) {
					return sent
				}
				if err != nil {
					t.Fatal(err)
				}
				sent += n
			}
			return sent
		}
		if n := send(false); n >= most/2 {
			t.Errorf("by TCP %d bytes are taken that nobody reads, want a limit below %d", n, most/2)
		}
		if n := send(true); n < most {
			t.Errorf("moved: %d bytes are taken that nobody reads, want no limit (%d were tried)", n, most)
		}
	})

	t.Run("figures", func(t *testing.T) {
		for name, moved := range map[string]bool{"by TCP": false, "moved": true} {
			client, server := connected(t, moved)
			message := bytes.Repeat([]byte("x"), 1000)
			if _, err := unix.Write(client, message); err != nil {
				t.Fatal(err)
			}
			if n, _, err := unix.Recvfrom(server, make([]byte, len(message)), unix.MSG_WAITALL); n != len(message) {
				t.Fatal(n, err)
			}
			info, err := unix.GetsockoptTCPInfo(server, unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil {
				t.Fatal(err)
			}
			if counted := info.Bytes_received >= uint64(len(message)); counted == moved {
				t.Errorf("%s: the kernel has counted %d bytes", name, info.Bytes_received)
			}
		}
	})
}

// connected returns the two ends of a TCP connection over loopback. If moved is set, a program
// moves what the client sends into the server's socket.
func connected(t *testing.T, moved bool) (client, server int) {
	t.Helper()
	socket := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	l := socket()
	err := errors.Join(unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(l, 1))
	if err != nil {
		t.Fatal(err)
	}
	addr, err := unix.Getsockname(l)
	if err != nil {
		t.Fatal(err)
	}
	client = socket()
	if err := unix.Connect(client, addr); err != nil {
		t.Fatal(err)
	}
	if server, _, err = unix.Accept4(l, unix.SOCK_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(server) })
	timeout := unix.NsecToTimeval((20 * time.Second).Nanoseconds())
	if err := unix.SetsockoptTimeval(server, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		t.Fatal(err)
	}
	if moved {
		move(t, client, server)
	}
	return client, server
}

// move makes a program put what is sent at one socket into what the other one has received.
func move(t *testing.T, from, to int) {
	t.Helper()
	sockets := func(fd int) *ebpf.Map {
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.SockMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		if fd >= 0 {
			if err := m.Put(uint32(0), uint32(fd)); err != nil {
				t.Fatal(err)
			}
		}
		return m
	}
	target, source := sockets(to), sockets(-1)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SkMsg, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMapPtr(asm.R2, target.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, 1), // BPF_F_INGRESS
		asm.FnMsgRedirectMap.Call(),
		asm.Return(),
	}})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { prog.Close() })
	attach := link.RawAttachProgramOptions{Target: source.FD(), Program: prog, Attach: ebpf.AttachSkMsgVerdict}
	if err := link.RawAttachProgram(attach); err != nil {
		t.Fatal(err)
	}
	if err := source.Put(uint32(0), uint32(from)); err != nil { // it gets the program that its map has
		t.Fatal(err)
	}
}
