// Package kernels runs tests of the data path on other kernels than the machine's: it boots
// each one in a virtual machine (qemu, which emulates the processor, because not every
// machine can do more), with a root file system in memory that has the compiled tests, the
// lab's programs, and guest as its first process. See docs/support.md for what it has found,
// and scripts/kernels.sh for where the kernels come from.
//
// A guest computes ten times slower than the machine, and some things 30 times. So only
// tests run there that judge no time.
package kernels
