package confine

import "golang.org/x/sys/unix"

const arch = unix.AUDIT_ARCH_AARCH64

// deniedHere are the denied system calls that other architectures do not have.
var deniedHere []uint32
