package kernels

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/underlane/underlane/test/kernels/cpio"
	"github.com/underlane/underlane/test/kernels/plan"
)

// bin is where a guest has the programs that are built.
const bin = "/opt/underlane"

// build compiles what guests run for a processor, into dir: the lab's programs, the tests,
// and the first process. Without the lab, which takes most of the time, there are no tests of
// test/e2e.
func build(root, dir, arch string, withoutLab bool) error {
	goTool := func(args ...string) error {
		cmd := exec.Command("go", args...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if arch == "arm64" {
			cmd.Env = append(cmd.Env, "GOARM64=v8.0")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
		return nil
	}
	const small = "-ldflags=-s -w"
	programs := []string{"./cmd/agent"}
	tests := map[string]string{"redirect.test": "./pkg/redirect"}
	if !withoutLab {
		programs = append(programs, "./cmd/controller", "./test/lab/cmd/lab", "./test/lab/labtest")
		tests["e2e.test"] = "./test/e2e"
	}
	if err := goTool(append([]string{"build", small, "-tags", "nocluster,grpcnotrace", "-o", dir + "/"}, programs...)...); err != nil {
		return err
	}
	for name, pkg := range tests {
		if err := goTool("test", "-c", "-vet=off", small, "-o", filepath.Join(dir, name), pkg); err != nil {
			return err
		}
	}
	return goTool("build", small, "-o", dir+"/", "./test/kernels/guest") // last: it says that all is there
}

// image writes the root file system of a guest: programs of Debian (a directory), those in
// built, the kernel's modules, and the plan.
func image(file, programs, built string, modules []module, steps []plan.Step) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	a := cpio.NewWriter(w)
	a.Tree(programs, func(name string) bool {
		for _, not := range []string{"usr/share/", "var/", "usr/lib/systemd/", "etc/"} {
			if strings.HasPrefix(name, not) {
				return false
			}
		}
		return true
	})
	a.Link("bin/sh", "busybox")
	for _, applet := range []string{"cat", "sleep", "timeout", "hostname", "tail", "ls", "true"} {
		a.Link("usr/local/bin/"+applet, "/bin/busybox")
	}
	a.Bytes("etc/hosts", []byte("127.0.0.1 localhost\n::1 localhost\n"), 0o644)
	a.Bytes("etc/hostname", []byte("guest\n"), 0o644)
	a.Bytes("etc/resolv.conf", nil, 0o644)
	a.Bytes("etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644)
	for _, dir := range []string{"root", "proc", "sys", "run", "tmp", "var/lib", "var/log"} {
		a.Dir(dir)
	}
	a.Link("var/run", "/run")
	entries, err := os.ReadDir(built)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "guest" {
			a.File("init", filepath.Join(built, e.Name()))
			continue
		}
		a.File(bin+"/"+e.Name(), filepath.Join(built, e.Name()))
	}
	p := plan.Plan{Steps: steps}
	for _, m := range modules {
		name := "/modules/" + m.name + ".ko"
		a.Bytes(name, m.data, 0o644)
		p.Modules = append(p.Modules, name)
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	a.Bytes(plan.Path, text, 0o644)
	if err := a.Close(); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}
