package kernels

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/underlane/underlane/test/kernels/plan"
)

// qemu returns the command of a guest's machine: two processors, 2 GiB, no network, and the
// console at its output.
func qemu(ctx context.Context, arch, kernel, initrd string) *exec.Cmd {
	// The processor is emulated everywhere: /dev/kvm may be there and not be usable.
	args := []string{
		"-accel", "tcg,thread=multi", "-m", "2048", "-smp", "2", "-nodefaults", "-no-reboot", "-display", "none", "-monitor", "none",
		"-serial", "stdio", "-kernel", kernel, "-initrd", initrd,
	}
	// loglevel=1: messages of the kernel would cut lines of the guest in two.
	const kernelArgs = "quiet loglevel=1 panic=-1 mitigations=off nokaslr random.trust_cpu=on"
	program := "qemu-system-x86_64"
	if arch == "arm64" {
		program = "qemu-system-aarch64"
		// Without pointer authentication, which is slow to emulate.
		args = append(args, "-machine", "virt", "-cpu", "neoverse-n1", "-append", "console=ttyAMA0 "+kernelArgs)
	} else {
		// Copies by `rep movs` are slow to emulate (clearcpuid=112: REP_GOOD), and on a busy
		// machine the timer's interrupts come too late for the kernel's test of them.
		args = append(args, "-cpu", "max,-erms,-fsrm", "-append", "console=ttyS0 "+kernelArgs+" no_timer_check clearcpuid=112")
	}
	return exec.CommandContext(ctx, program, args...)
}

// session is what a guest has said.
type session struct {
	release string
	booted  time.Duration
	results []plan.Result
	done    bool
	rest    []byte // other lines of its console, the last ones
	errors  []string
}

// boot runs a guest until it has ended. each is called for its messages, as they come. An
// error is one of qemu.
func boot(ctx context.Context, cmd *exec.Cmd, each func(plan.Message)) (*session, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: make deps-kernels installs it", err)
	}
	var s session
	s.read(out, func(m plan.Message) {
		if m.Kernel != "" {
			s.booted = time.Since(began)
		}
		each(m)
	})
	err = cmd.Wait()
	if ctx.Err() != nil {
		return &s, errors.New("the guest did not end in time")
	}
	if err != nil {
		return &s, fmt.Errorf("%s: %w: %s", cmd.Path, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return &s, nil
}

// stale reports whether the kernel has died of a breakpoint of its own. It sets one while it
// replaces an instruction, as it does when a feature is used for the first time, and removes it
// when no processor can run the old one any more. qemu's emulated processors, each a thread, now and
// then run what they have translated before.
func (s *session) stale() bool { return !s.done && bytes.Contains(s.rest, []byte("Oops: int3: ")) }

// restLimit bounds what is kept of lines that are no messages.
const restLimit = 32 << 10

func (s *session) read(console io.Reader, each func(plan.Message)) {
	r := bufio.NewReaderSize(console, 1<<20)
	for {
		line, err := r.ReadString('\n')
		// A program's line without an end, or the kernel, may come before it.
		if _, text, ok := strings.Cut(line, plan.Mark); ok {
			var m plan.Message
			if json.Unmarshal([]byte(text), &m) == nil {
				s.take(m)
				each(m)
				line = ""
			}
		}
		if s.rest = append(s.rest, line...); len(s.rest) > restLimit {
			s.rest = s.rest[len(s.rest)-restLimit:]
		}
		if err != nil {
			return
		}
	}
}

func (s *session) take(m plan.Message) {
	if m.Kernel != "" {
		s.release = m.Kernel
	}
	if m.Result != nil {
		s.results = append(s.results, *m.Result)
	}
	if m.Error != "" {
		s.errors = append(s.errors, m.Error)
	}
	s.done = s.done || m.Done
}
