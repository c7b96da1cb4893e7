// Package calls counts the system calls of processes in the kernel. A tracer that
// reads events would lose some on a busy machine, and would slow down the
// processes.
package calls

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

// numbers is above the number of every system call.
const numbers = 512

// Counter counts system calls from Start to Stop.
type Counter struct {
	objects []interface{ Close() error }
	counts  *ebpf.Map // index: twice the system call's number, plus one for failures
}

// where is the offset of the system call's number in struct pt_regs.
var where = map[string]int32{"amd64": 15 * 8, "arm64": 35 * 8}

// Start begins to count the system calls of these processes. It costs every system
// call of the machine some ten nanoseconds. It needs root.
func Start(pids []int) (_ *Counter, err error) {
	offset, ok := where[runtime.GOARCH]
	if !ok {
		return nil, fmt.Errorf("count system calls: not on %s", runtime.GOARCH)
	}
	c := &Counter{}
	defer func() {
		if err != nil {
			err = fmt.Errorf("count system calls: %w", errors.Join(err, c.close()))
		}
	}()
	_ = rlimit.RemoveMemlock() // kernels before 5.11 count maps against it
	processes, err := ebpf.NewMap(&ebpf.MapSpec{Name: "processes", Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: uint32(max(len(pids), 1))})
	if err != nil {
		return nil, err
	}
	c.objects = append(c.objects, processes)
	for _, pid := range pids {
		if err := processes.Put(uint32(pid), uint32(1)); err != nil {
			return nil, err
		}
	}
	c.counts, err = ebpf.NewMap(&ebpf.MapSpec{Name: "calls", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 2 * numbers})
	if err != nil {
		return nil, err
	}
	c.objects = append(c.objects, c.counts)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "count_calls", Type: ebpf.RawTracepoint, License: "GPL", Instructions: program(processes, c.counts, offset)})
	if err != nil {
		return nil, err
	}
	c.objects = append(c.objects, prog)
	attached, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sys_exit", Program: prog})
	if err != nil {
		return nil, err
	}
	c.objects = append(c.objects, attached)
	return c, nil
}

// program returns the BPF program that runs at the end of each system call. Its
// context is {registers, result}.
func program(processes, counts *ebpf.Map, offset int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.FnGetCurrentPidTgid.Call(),
		asm.RSh.Imm(asm.R0, 32),
		asm.StoreMem(asm.RFP, -4, asm.R0, asm.Word),
		asm.LoadMapPtr(asm.R1, processes.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),

		asm.LoadMem(asm.R3, asm.R6, 0, asm.DWord),
		asm.Add.Imm(asm.R3, offset),
		asm.StoreImm(asm.RFP, -16, 0, asm.Word),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, -16),
		asm.Mov.Imm(asm.R2, 4),
		asm.FnProbeReadKernel.Call(),
		asm.LoadMem(asm.R7, asm.RFP, -16, asm.Word),
		asm.JGE.Imm(asm.R7, numbers, "out"), // also excludes restart_syscall's -1
		asm.LSh.Imm(asm.R7, 1),
		asm.LoadMem(asm.R8, asm.R6, 8, asm.DWord),
		asm.JSGE.Imm(asm.R8, 0, "count"),
		asm.Add.Imm(asm.R7, 1),

		asm.StoreMem(asm.RFP, -4, asm.R7, asm.Word).WithSymbol("count"),
		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord), // a per-CPU array: no atomic operation is needed
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),

		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
		asm.Return(),
	}
}

func (c *Counter) close() error {
	var errs []error
	for i := len(c.objects) - 1; i >= 0; i-- {
		errs = append(errs, c.objects[i].Close())
	}
	c.objects = nil
	return errors.Join(errs...)
}

// Stop returns how often each system call was made, by name. A name with an
// exclamation mark, such as "read!", has the number of failures.
func (c *Counter) Stop() (map[string]uint64, error) {
	defer c.close()
	out := map[string]uint64{}
	for i := range uint32(2 * numbers) {
		var each []uint64
		if err := c.counts.Lookup(i, &each); err != nil {
			return nil, fmt.Errorf("count system calls: %w", err)
		}
		var sum uint64
		for _, n := range each {
			sum += n
		}
		if sum == 0 {
			continue
		}
		name := name(i / 2)
		out[name] += sum
		if i%2 == 1 {
			out[name+"!"] = sum
		}
	}
	return out, nil
}
