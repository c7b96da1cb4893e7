package inject

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// HasClock is set if the clock of a process can be stepped on this architecture.
const HasClock = true

// Clock is the wall clock of one process. The clock of the machine, and of other processes,
// is as before. A time namespace cannot do that: it has no CLOCK_REALTIME.
//
// The process calls clock_gettime in the vDSO, a page that the kernel maps into each
// process and lets a debugger write; what is written is the process's own copy. The first
// instruction of the function becomes a jump to code in the free space behind the image,
// which makes the system call and adds a number of seconds to CLOCK_REALTIME. The other
// clocks, and with them all timers, are as before.
type Clock struct {
	pid  int
	step int64 // address of the number of seconds
}

// code is what the function jumps to. The step follows it.
var code = []byte{
	0x57,                         // push rdi: the clock
	0x56,                         // push rsi: the result
	0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228: clock_gettime
	0x0f, 0x05, // syscall
	0x5e,       // pop rsi
	0x5f,       // pop rdi
	0x85, 0xff, // test edi, edi: CLOCK_REALTIME is 0
	0x75, 0x0a, // jnz end
	0x48, 0x8b, 0x0d, 0x04, 0x00, 0x00, 0x00, // mov rcx, [rip+4]: the step
	0x48, 0x01, 0x0e, // add [rsi], rcx
	0xc3, // end: ret
}

// jumpLen is the length of a jump, which replaces the beginning of the function.
const jumpLen = 5

// OpenClock prepares the clock of a process, which is stopped for a moment. Until Step is
// called it is right.
func OpenClock(pid int) (*Clock, error) {
	c, err := openClock(pid)
	if err != nil {
		return nil, fmt.Errorf("clock of process %d: %w", pid, err)
	}
	return c, nil
}

func openClock(pid int) (*Clock, error) {
	start, size, err := findVDSO(pid)
	if err != nil {
		return nil, err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	image := make([]byte, size)
	if _, err := mem.ReadAt(image, start); err != nil {
		return nil, fmt.Errorf("read the vDSO: %w", err)
	}
	function, err := clockGettime(image)
	if err != nil {
		return nil, err
	}
	// From the end of the image to that of its last page there are zeros.
	at := (len(bytes.TrimRight(image, "\x00")) + 31) &^ 15
	stepAt := at + len(code)
	if stepAt+8 > len(image) {
		return nil, errors.New("no room behind the image of the vDSO")
	}
	c := &Clock{pid: pid, step: start + int64(stepAt)}
	if image[function] == 0xe9 {
		return nil, errors.New("it is prepared already")
	}
	jump := append([]byte{0xe9}, binary.LittleEndian.AppendUint32(nil, uint32(at-function-jumpLen))...)
	err = stopped(pid, uint64(start)+uint64(function), func() error {
		if _, err := mem.WriteAt(append(bytes.Clone(code), make([]byte, 8)...), start+int64(at)); err != nil {
			return fmt.Errorf("write the vDSO: %w", err)
		}
		_, err := mem.WriteAt(jump, start+int64(function))
		return err
	})
	return c, err
}

// Step sets by how much the process's clock differs from that of the machine, in whole
// seconds. Zero: it is right again.
func (c *Clock) Step(by time.Duration) error {
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", c.pid), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("clock of process %d: %w", c.pid, err)
	}
	defer mem.Close()
	_, err = mem.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(int64(by/time.Second))), c.step)
	return err
}

// findVDSO returns where a process has the vDSO.
func findVDSO(pid int) (start, size int64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		var end int64
		if _, err := fmt.Sscanf(line, "%x-%x ", &start, &end); err != nil {
			return 0, 0, fmt.Errorf("%q: %w", line, err)
		}
		return start, end - start, nil
	}
	return 0, 0, errors.New("it has no vDSO")
}

// clockGettime returns the offset of the function in the image of the vDSO.
func clockGettime(image []byte) (int, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, fmt.Errorf("image of the vDSO: %w", err)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("image of the vDSO: %w", err)
	}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" && int(s.Value)+jumpLen < len(image) {
			return int(s.Value), nil
		}
	}
	return 0, errors.New("the vDSO has no __vdso_clock_gettime")
}

// stopped calls f while the process is stopped, and none of its threads is at the beginning
// of the function at address.
func stopped(pid int, address uint64, f func() error) error {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			return err
		}
		safe := outside(pid, address, deadline)
		var err error
		if safe {
			err = f()
		}
		if err := errors.Join(err, unix.Kill(pid, unix.SIGCONT)); err != nil || safe {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("its threads do not stop, or not outside the function")
}

// outside waits until all threads have stopped, and reports whether none of them is inside
// the first instructions of the function at address.
func outside(pid int, address uint64, deadline time.Time) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return false
	}
	for _, dir := range threads {
		for {
			at, isStopped := programCounter(dir)
			if isStopped {
				if at > address && at < address+jumpLen {
					return false
				}
				break
			}
			if time.Now().After(deadline) {
				return false
			}
			time.Sleep(time.Millisecond)
		}
	}
	return true
}

// programCounter returns where a stopped thread goes on.
func programCounter(task string) (at uint64, isStopped bool) {
	stat, err := os.ReadFile(filepath.Join(task, "stat"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, true // the thread has ended
	}
	if _, after, ok := strings.Cut(string(stat), ") "); err != nil || !ok || after[0] != 'T' {
		return 0, false
	}
	text, err := os.ReadFile(filepath.Join(task, "syscall")) // number, arguments, stack pointer, program counter
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(text))
	at, err = strconv.ParseUint(fields[len(fields)-1], 0, 64)
	return at, err == nil
}
