package kernels

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/underlane/underlane/internal/rundir"
	"github.com/underlane/underlane/test/kernels/plan"
)

// limit bounds the life of a guest.
const limit = 2*time.Hour + 30*time.Minute

type options struct {
	arch, run, table string
	built            string
	kernels          []string
	short, load      bool
	quiet            bool
}

// Main is the program, in the root of the source tree. It returns the exit status.
func Main(args []string) int {
	flags := flag.NewFlagSet("kernels", flag.ContinueOnError)
	var o options
	flags.StringVar(&o.arch, "arch", "amd64", "processor: amd64 or arm64")
	names := flags.String("kernels", "5.10,6.1,6.12,newest", "lines of Debian's kernels, newest, or directories with boot/vmlinuz-* and lib/modules")
	flags.StringVar(&o.run, "run", "", "only the tests that this expression matches")
	flags.BoolVar(&o.short, "short", false, "only some tests of each kind")
	flags.BoolVar(&o.load, "load", false, "only whether the programs load, and what agent check says")
	flags.StringVar(&o.table, "table", "", "page with the table of results, which is written")
	flags.StringVar(&o.built, "built", "", "directory with what an earlier run has built and left there; if it is empty, it is built into it")
	flags.BoolVar(&o.quiet, "quiet", false, "do not say how each test ended")
	if flags.Parse(args) != nil {
		return 2
	}
	if o.arch != "amd64" && o.arch != "arm64" {
		fmt.Fprintf(os.Stderr, "kernels: there are none for %s: -arch is amd64 or arm64\n", o.arch)
		return 2
	}
	o.kernels = strings.Split(*names, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	passed, failed, err := o.all(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		return 1
	}
	fmt.Printf("kernels: %d passed, %d failed\n", passed, failed)
	if failed > 0 {
		return 1
	}
	return 0
}

// all tests one kernel after the other. A table has those that passed.
func (o *options) all(ctx context.Context) (passed, failed int, err error) {
	root, err := os.Getwd()
	if err != nil {
		return 0, 0, err
	}
	dir, remove, err := rundir.Make("kernels")
	if err != nil {
		return 0, 0, err
	}
	defer remove()
	var found []*kernel
	for _, name := range o.kernels {
		k, err := find(root, name, o.arch)
		if err != nil {
			return 0, 0, err
		}
		found = append(found, k)
	}
	programs, err := fetch(root, "programs", o.arch)
	if err != nil {
		return 0, 0, err
	}
	built := cmp.Or(o.built, filepath.Join(dir, "bin"))
	if !exists(filepath.Join(built, "guest")) {
		if err := os.MkdirAll(built, 0o755); err != nil {
			return 0, 0, err
		}
		if err := build(root, built, o.arch, o.load); err != nil {
			return 0, 0, err
		}
	}
	var rows []row
	for _, k := range found {
		release, v, err := o.one(ctx, k, dir, programs, built)
		if err != nil {
			return passed, failed, fmt.Errorf("kernel %s: %w", k.release, err)
		}
		if len(v.wrong) > 0 {
			failed++
			continue
		}
		passed++
		rows = append(rows, o.newRow(release, v))
	}
	if o.table != "" && len(rows) > 0 {
		err = updateFile(o.table, rows)
	}
	return passed, failed, err
}

// one boots a kernel and prints how its tests went.
func (o *options) one(ctx context.Context, k *kernel, dir, programs, built string) (release string, v verdict, err error) {
	modules, missing, err := k.load(wanted)
	if err != nil {
		return "", v, err
	}
	if len(missing) > 0 {
		fmt.Printf("%s has no module %s\n", k.release, strings.Join(missing, ", "))
	}
	kernelFile, err := k.bootable(dir)
	if err != nil {
		return "", v, err
	}
	steps := o.steps(k.line)
	initrd := filepath.Join(dir, "initrd")
	if err := image(initrd, programs, built, modules, steps); err != nil {
		return "", v, err
	}
	fmt.Printf("=== %s, %s\n", k.release, k.arch)
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s, err := o.boot(ctx, k.arch, kernelFile, initrd)
	if s != nil && s.stale() {
		fmt.Println("the emulator has run an instruction that the kernel had replaced already: once more")
		s, err = o.boot(ctx, k.arch, kernelFile, initrd)
	}
	if s == nil {
		return "", v, err
	}
	v = judge(k.line, steps, s)
	if err != nil {
		v.wrong = append(v.wrong, err.Error())
	}
	if !s.done {
		fmt.Printf("its console:\n%s\n", s.rest)
	}
	for _, w := range v.wrong {
		fmt.Printf("  wrong: %s\n", w)
	}
	how := "PASS"
	if len(v.wrong) > 0 {
		how = "FAIL"
	}
	fmt.Printf("--- %s: %s, %s (%.0f s; booted after %.0f s)\n", how, k.release, k.arch, time.Since(began).Seconds(), s.booted.Seconds())
	return s.release, v, nil
}

// boot boots a guest and prints how its tests go.
func (o *options) boot(ctx context.Context, arch, kernelFile, initrd string) (*session, error) {
	return boot(ctx, qemu(ctx, arch, kernelFile, initrd), func(m plan.Message) {
		if m.Test != "" && !o.quiet {
			fmt.Printf("    %s\n", m.Test)
		}
		if r := m.Result; r != nil {
			fmt.Printf("  %s: %d passed, %d failed, %d skipped, exit status %d, %.0f s\n", r.Step, r.Passed, len(r.Failed), len(r.Skipped), r.Code, r.Seconds)
			if r.Code != 0 && (r.Step == "redirect" || r.Step == "e2e") {
				fmt.Println(r.Output)
			}
		}
	})
}
