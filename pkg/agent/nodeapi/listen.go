// Package nodeapi serves the node API: it adapts the tap hub and the agent's
// status and dump to gRPC. There are two doors: the node's unix socket, for
// programs that may open it (root's), and TCP with mutual TLS, for the controller alone.
package nodeapi

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// ErrInUse is returned by Listen when an agent already answers on the socket.
var ErrInUse = errors.New("another agent is running on this node")

// Listen makes the socket at path, readable by its owner only, and replaces a
// dead one. The directory is made if need be. Closing the listener removes the
// socket, unless it has been replaced since.
func Listen(path string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, ErrInUse)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the socket's directory: %w", err)
	}
	// Bind where no other user may look and rename: the socket is never open to
	// others, not even for the moment before chmod.
	private, err := os.MkdirTemp(dir, ".sock")
	if err != nil {
		return nil, fmt.Errorf("make the socket's directory: %w", err)
	}
	defer os.RemoveAll(private)
	bound := filepath.Join(private, "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: bound, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	info, err := publish(bound, path)
	if err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return &listener{ln, path, info}, nil
}

func publish(bound, path string) (fs.FileInfo, error) {
	if old, err := os.Lstat(path); err == nil && old.Mode().Type() != fs.ModeSocket {
		return nil, errors.New("there is a file that is no socket: move it away or choose another --socket")
	}
	if err := os.Chmod(bound, 0o600); err != nil {
		return nil, err
	}
	info, err := os.Lstat(bound)
	if err != nil {
		return nil, err
	}
	return info, os.Rename(bound, path)
}

type listener struct {
	*net.UnixListener
	path string
	info fs.FileInfo
}

// Addr is the socket's address after the rename.
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening and removes the socket if it is still this one.
func (l *listener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.info) {
		_ = os.Remove(l.path)
	}
	return l.UnixListener.Close()
}
