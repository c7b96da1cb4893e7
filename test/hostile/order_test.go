package hostile

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// orderVariable has the order of a process in a pod: this test's program runs there
// again, as the victim, the prober or the attacker.
const orderVariable = "UNDERLANE_HOSTILE_ORDER"

// order is what a process in a pod is to do.
type order struct {
	Do    string            // "victim", "probe", or the name of a method of attackers
	Addrs map[string]string // of servers, by name
	To    string            // address of the attack's target
	Conns int               // of the attack, at most
	For   time.Duration     // of the attack
	Cert  *wireCert         // of the attacker; nil: it speaks in the clear
	ALPN  string
}

// wireCert is a certificate chain with its key (PKCS #8), for JSON.
type wireCert struct {
	Chain [][]byte
	Key   []byte
}

func encodeCert(t *testing.T, c tls.Certificate) *wireCert {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return &wireCert{Chain: c.Certificate, Key: key}
}

func (c *wireCert) decode() (tls.Certificate, error) {
	key, err := x509.ParsePKCS8PrivateKey(c.Key)
	return tls.Certificate{Certificate: c.Chain, PrivateKey: key}, err
}

// perform executes an order and prints its result as JSON.
func perform(text string) int {
	var o order
	err := json.Unmarshal([]byte(text), &o)
	var out any
	if err == nil {
		switch o.Do {
		case "victim":
			out = beVictim(o)
		case "probe":
			out = probe(o)
		default:
			if err = lowerSession(); err == nil {
				out, err = runAttack(o)
			}
		}
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		return 1
	}
	return 0
}

// untilTold is closed when standard input ends.
func untilTold() <-chan struct{} {
	told := make(chan struct{})
	go func() {
		defer close(told)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	return told
}

// actor is a process that executes an order in a pod.
type actor struct {
	cmd         *exec.Cmd
	in          io.Closer
	out, stderr bytes.Buffer
	waited      bool
}

// act starts a process in a pod. Attackers get a low priority: what they take of
// this machine's processors is not the mesh's doing, and in a cluster they would have
// processors of their own.
func act(t *testing.T, l *lab.Lab, pod string, o order) *actor {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	argv := []string{exe}
	if o.Do != "victim" && o.Do != "probe" {
		argv = append(low(), exe)
	}
	a := &actor{cmd: l.PodCommand(pod, argv...)}
	a.cmd.Env = append(a.cmd.Env, orderVariable+"="+string(text))
	a.cmd.Stdout, a.cmd.Stderr = &a.out, &a.stderr
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !a.waited {
			_ = a.in.Close()
			_ = a.cmd.Wait()
		}
	})
	return a
}

// result waits for the end of the process and reads what it printed.
func (a *actor) result(t *testing.T, into any) {
	t.Helper()
	a.waited = true
	if err := a.cmd.Wait(); err != nil {
		t.Fatalf("a process in a pod: %v: %s", err, a.stderr.String())
	}
	if err := json.Unmarshal(a.out.Bytes(), into); err != nil {
		t.Fatalf("a process in a pod printed %q: %v", a.out.String(), err)
	}
}

// end tells the process to end, and reads what it printed.
func (a *actor) end(t *testing.T, into any) {
	t.Helper()
	_ = a.in.Close()
	a.result(t, into)
}
