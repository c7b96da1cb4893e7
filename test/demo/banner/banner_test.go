package banner

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// TestServerSpeaksFirst has a client that never writes, so everything that it reads
// was sent by the server unasked.
func TestServerSpeaksFirst(t *testing.T) {
	conn, err := net.Dial("tcp", start(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	seq, payload, err := readPacket(conn)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseHandshake(payload); seq != 0 || got != ServerVersion || err != nil {
		t.Errorf("handshake: seq %d, version %q, %v; want 0 and %q", seq, got, err, ServerVersion)
	}
}

func TestVisit(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := Visit(ctx, start(t))
	if err != nil {
		t.Fatal(err)
	}
	if got.Greeting != Greeting || got.ServerVersion != ServerVersion || got.Spoke > got.Answered {
		t.Errorf("got %+v, want the greeting %q and the version %q", got, Greeting, ServerVersion)
	}
}

func TestVisitOfSilentServerEndsWithContext(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // long enough to connect
	defer cancel()
	if _, err := Visit(ctx, ln.Addr().String()); err == nil || !strings.Contains(err.Error(), "wait for it to speak") {
		t.Errorf("got error %v, want one about the wait for the server", err)
	}
}

func TestQueries(t *testing.T) {
	conn, err := net.Dial("tcp", start(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, _, err := readPacket(conn); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := query(conn, QueryGreeting); got != Greeting || err != nil {
			t.Errorf("query: got %q, %v; want %q", got, err, Greeting)
		}
	}
	if _, err := query(conn, "DROP TABLE banner"); err == nil || !strings.Contains(err.Error(), "unknown query") {
		t.Errorf("an unknown query: got error %v, want one that says so", err)
	}
	if got := reply([]byte{0x42}); got[0] != isError {
		t.Errorf("an unknown command: got the answer %q, want an error", got)
	}
}

func FuzzReadPacket(f *testing.F) {
	var good bytes.Buffer
	if err := writePacket(&good, 0, handshake(ServerVersion, 7)); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{255, 255, 255, 0})
	f.Add([]byte("SSH-2.0-OpenSSH\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		seq, payload, err := readPacket(bytes.NewReader(data))
		if err != nil {
			return
		}
		parseHandshake(payload)
		reply(payload)
		var again bytes.Buffer
		if err := writePacket(&again, seq, payload); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(data, again.Bytes()) {
			t.Errorf("read %x and wrote %x, want the same", data, again.Bytes())
		}
	})
}
