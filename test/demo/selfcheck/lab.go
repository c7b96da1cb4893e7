package selfcheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// childGrace is the time that a child may take to end after SIGTERM.
const childGrace = 2 * time.Second

// Lab runs commands of the lab as child processes.
type Lab struct {
	Command []string // bin/lab and its flags
}

// Run runs a command until it ends and returns its standard output. If ctx ends
// first, Run ends the command and its children.
func (l Lab) Run(ctx context.Context, args ...string) ([]byte, error) {
	var out bytes.Buffer
	err := l.Pipe(ctx, &out, args...)
	return out.Bytes(), err
}

// For is like Run for a command that does not end: it stops the command after d. It
// fails only if the command ends by itself before.
func (l Lab) For(ctx context.Context, d time.Duration, args ...string) ([]byte, error) {
	limit, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	out, err := l.Run(limit, args...)
	if ctx.Err() == nil && limit.Err() != nil {
		return out, nil
	}
	if err == nil {
		err = fmt.Errorf("%s: ended before it was stopped", strings.Join(args, " "))
	}
	return out, err
}

// Pipe is like Run, but writes the output to w as it comes.
func (l Lab) Pipe(ctx context.Context, w io.Writer, args ...string) error {
	all := append(append([]string{}, l.Command...), args...)
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.Stdout, cmd.Stderr = w, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = childGrace
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // children that are still running
	}
	if err != nil {
		return fmt.Errorf("%s: %w%s", strings.Join(args, " "), errors.Join(ctx.Err(), err), lastLine(stderr.String()))
	}
	return nil
}

// lastLine returns ": " and the last line of a child's standard error.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	if text == "" {
		return ""
	}
	return ": " + text[strings.LastIndexByte(text, '\n')+1:]
}
