package confine

import "golang.org/x/sys/unix"

// denied are the system calls that fail with EPERM: those that would execute a program,
// change the node or its namespaces, see into other processes or signal them, or reach
// parts of the kernel that the agent does not use. A container's profile allows many of
// these to a process with CAP_SYS_ADMIN.
var denied = append([]uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_KILL, unix.SYS_TKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO, unix.SYS_PIDFD_SEND_SIGNAL,
	unix.SYS_MOUNT, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE,
	unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_FSCONFIG, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_UNSHARE, unix.SYS_MKNODAT, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_SYSLOG, unix.SYS_ACCT, unix.SYS_VHANGUP, unix.SYS_PERSONALITY,
	unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_ADJTIMEX, unix.SYS_CLOCK_ADJTIME,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
	unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_FANOTIFY_INIT, unix.SYS_MEMFD_SECRET,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETREUID, unix.SYS_SETREGID, unix.SYS_SETRESUID, unix.SYS_SETRESGID,
	unix.SYS_SETFSUID, unix.SYS_SETFSGID, unix.SYS_SETGROUPS,
}, deniedHere...)

// newNamespaces are the flags of clone(2) that make namespaces.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Offsets in struct seccomp_data. An argument's low half comes first: both architectures
// are little-endian.
const (
	offNumber = 0
	offArch   = 4
	offArg0   = 16
	offArg1   = 24
)

const (
	load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	above = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	some  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	ret   = unix.BPF_RET | unix.BPF_K
)

var (
	allow = unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW}
	deny  = unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)}
	lack  = unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}
)

// program returns the filter for the process pid.
func program(pid int, unmounts bool) []unix.SockFilter {
	code := []unix.SockFilter{
		{Code: load, K: offArch},
		{Code: equal, K: arch, Jt: 1},
		deny,
		{Code: load, K: offNumber},
		// x32 on amd64: the same calls with other numbers.
		{Code: above, K: 0x40000000, Jf: 1},
		deny,
		// A filter cannot see the flags of clone3. A C library then calls clone.
		{Code: equal, K: unix.SYS_CLONE3, Jf: 1},
		lack,
	}
	list := denied
	if !unmounts {
		list = append([]uint32{unix.SYS_UMOUNT2}, list...)
	}
	for _, number := range list {
		code = append(code, unix.SockFilter{Code: equal, K: number, Jf: 1}, deny)
	}
	// argument checks an argument of one system call: tests have to let it pass, by jumping
	// over what denies.
	argument := func(number, offset uint32, tests ...unix.SockFilter) {
		for i := range tests {
			rest := uint8(len(tests) - i) // to what is behind deny
			if tests[i].Code == some {
				tests[i].Jf = rest
			} else {
				tests[i].Jt = rest
			}
		}
		code = append(code, unix.SockFilter{Code: equal, K: number, Jf: uint8(len(tests) + 3)}, unix.SockFilter{Code: load, K: offset})
		code = append(append(code, tests...), deny, allow)
	}
	argument(unix.SYS_SETNS, offArg1, unix.SockFilter{Code: equal, K: unix.CLONE_NEWNET})
	argument(unix.SYS_TGKILL, offArg0, unix.SockFilter{Code: equal, K: uint32(pid)}) // the Go runtime, to its threads
	argument(unix.SYS_CLONE, offArg0, unix.SockFilter{Code: some, K: newNamespaces})
	argument(unix.SYS_SOCKET, offArg0,
		unix.SockFilter{Code: equal, K: unix.AF_UNIX}, unix.SockFilter{Code: equal, K: unix.AF_INET},
		unix.SockFilter{Code: equal, K: unix.AF_INET6}, unix.SockFilter{Code: equal, K: unix.AF_NETLINK})
	return append(code, allow)
}
