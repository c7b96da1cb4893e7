package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/underlane/underlane/test/kernels/plan"
)

func say(console io.Writer, m plan.Message) { _, _ = console.Write(m.Line()) }

// work does what the plan says. An error is the guest's own, not that of a test.
func work(console io.Writer) error {
	text, err := os.ReadFile(plan.Path)
	if err != nil {
		return err
	}
	var p plan.Plan
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("%s: %w", plan.Path, err)
	}
	for _, file := range p.Modules {
		if err := load(file); err != nil {
			return err
		}
	}
	if err := setUp(); err != nil {
		return err
	}
	say(console, plan.Message{Kernel: release()})
	for _, s := range p.Steps {
		r := run(s, func(line string) { say(console, plan.Message{Test: line}) })
		say(console, plan.Message{Result: &r})
	}
	return nil
}

func run(s plan.Step, ended func(line string)) plan.Result {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.Seconds)*time.Second)
	defer cancel()
	tests := plan.Tests{Ended: ended}
	cmd := exec.CommandContext(ctx, s.Args[0], s.Args[1:]...)
	cmd.Env = append(os.Environ(), s.Env...)
	cmd.Stdout, cmd.Stderr = &tests, &tests
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// What a killed test has started ends with it, and holds no pipe open.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	r := plan.Result{
		Step: s.Name, Passed: tests.Passed, Failed: tests.Failed, Skipped: tests.Skipped,
		Seconds: time.Since(began).Seconds(),
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
	case err != nil:
		r.Code = -1
	}
	if r.Code != 0 || s.Say {
		r.Output = tests.Output()
	}
	if err != nil && r.Code == -1 {
		r.Output += fmt.Sprintf("\n%v after %.0f s\n", err, r.Seconds)
	}
	return r
}
