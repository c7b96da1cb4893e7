package confine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// confined is the environment variable that makes the test binary confine itself.
const confined = "UNDERLANE_TEST_CONFINED"

// TestMain runs the checks of a confined process, if this is one.
func TestMain(m *testing.M) {
	if os.Getenv(confined) == "" {
		os.Exit(m.Run())
	}
	if err := inside(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("held")
}

// TestProcess confines a process with many threads and looks at what it can do. The process
// is built without cgo, as the agent is.
func TestProcess(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "confined.test")
	build := exec.Command("go", "test", "-c", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(bin)
	cmd.Env = append(os.Environ(), confined+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "held\n" {
		t.Errorf("%v:\n%s", err, out)
	}
}

func inside() error {
	// Threads from before, in a system call and in none.
	end := make(chan struct{})
	before := make(chan struct{})
	for range 8 {
		go func() {
			runtime.LockOSThread()
			before <- struct{}{}
			<-end
		}()
		<-before
	}
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return err
	}
	go func() {
		runtime.LockOSThread()
		close(before)
		_, _, _ = syscall.RawSyscall(unix.SYS_PPOLL, 0, 0, 0) // outside the scheduler's view
	}()
	<-before
	if err := Process(false); err != nil {
		return err
	}
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	denied := func(what string, errno error) {
		if errno != unix.EPERM {
			fail("%s: got %v, want %v", what, errno, unix.EPERM)
		}
	}
	allowed := func(what string, err error) {
		if errors.Is(err, unix.EPERM) {
			fail("%s: %v", what, err)
		}
	}
	for range 3 { // also threads that are made now
		go func() { runtime.LockOSThread(); before2 <- struct{}{}; <-end }()
		<-before2
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	if len(tasks) < 12 {
		fail("only %d threads", len(tasks))
	}
	for _, task := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(status)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			value = strings.TrimSpace(value)
			most := uint64(1)<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_SYS_PTRACE
			var caps uint64
			switch key {
			case "CapPrm", "CapEff", "CapInh", "CapAmb":
				if _, err := fmt.Sscanf(value, "%x", &caps); err != nil || caps&^most != 0 || key == "CapInh" && caps != 0 {
					fail("thread %s: %s", task.Name(), line)
				}
			case "Seccomp":
				if value != "2" {
					fail("thread %s: %s", task.Name(), line)
				}
			case "NoNewPrivs":
				if value != "1" {
					fail("thread %s: %s", task.Name(), line)
				}
			}
		}
	}
	denied("exec", syscall.Exec("/bin/true", []string{"true"}, nil))
	if _, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{}); !errors.Is(err, unix.EPERM) {
		fail("a process was started: %v", err)
	}
	denied("mount", unix.Mount("none", "/tmp", "tmpfs", 0, ""))
	denied("umount", unix.Unmount("/tmp", 0))
	denied("unshare", unix.Unshare(unix.CLONE_NEWUSER))
	denied("chroot", unix.Chroot("/"))
	denied("kill", unix.Kill(os.Getpid(), 0))
	denied("tgkill of another process", unix.Tgkill(1, 1, 0))
	denied("setns of a mount namespace", unix.Setns(-1, unix.CLONE_NEWNS))
	denied("setns of any namespace", unix.Setns(-1, 0))
	denied("setuid", unix.Setresuid(1, 1, 1))
	_, _, errno := syscall.RawSyscall6(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0, 0)
	denied("perf_event_open", errno)
	_, _, errno = syscall.RawSyscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
	denied("io_uring_setup", errno)
	_, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	denied("clone with a namespace", errno)
	if _, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, 0, 0, 0); errno != unix.ENOSYS {
		fail("clone3: got %v, want %v", errno, unix.ENOSYS)
	}
	if runtime.GOARCH == "amd64" {
		_, _, errno = syscall.RawSyscall(0x40000000|unix.SYS_GETPID, 0, 0, 0)
		denied("x32", errno)
	}
	_, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	denied("a packet socket", err)
	_, err = unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)
	denied("a socket of the crypto API", err)

	if unix.Setns(-1, unix.CLONE_NEWNET) != unix.EBADF {
		fail("setns of a network namespace is denied")
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6, unix.AF_UNIX, unix.AF_NETLINK} {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
		allowed(fmt.Sprintf("a socket of the family %d", family), err)
		unix.Close(fd)
	}
	allowed("tgkill of the own thread", unix.Tgkill(os.Getpid(), unix.Gettid(), 0))
	_, err = os.ReadFile("/proc/self/stat")
	allowed("a file", err)
	runtime.GC() // stops all threads by signals
	return errors.Join(errs...)
}

var before2 = make(chan struct{})

// TestProgram checks that the filter is one that the kernel takes, and that an argument
// check of every length lets pass what it should.
func TestProgram(t *testing.T) {
	for _, unmounts := range []bool{false, true} {
		code := program(1, unmounts)
		if len(code) > 4096 {
			t.Errorf("%d instructions, the kernel takes 4096", len(code))
		}
		for i, c := range code {
			if c.Code&7 == unix.BPF_JMP && (i+1+int(c.Jt) >= len(code) || i+1+int(c.Jf) >= len(code)) {
				t.Errorf("instruction %d jumps beyond the end: %+v", i, c)
			}
		}
	}
}
