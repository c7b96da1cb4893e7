//go:build !amd64

package calls

var more map[uint32]string
