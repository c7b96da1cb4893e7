// Package nodeapi serves the node API: it adapts the tap hub and the agent's status and
// dump to gRPC. It is served on the node's unix socket, which only root may open, and on
// TCP with mutual TLS, for the controller only.
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

// Listen makes the socket at path, with access for its owner only. It makes the
// directory, and replaces a socket on which no agent answers. Closing the listener
// removes the socket, unless another one has replaced it.
func Listen(path string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, ErrInUse)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the socket's directory: %w", err)
	}
	// Bind in a directory that no other user may open, then rename: otherwise the socket
	// would be open to other users until chmod.
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

// Addr returns the socket's address after the rename.
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close closes the listener, and removes the socket if no other one has replaced it.
func (l *listener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.info) {
		_ = os.Remove(l.path)
	}
	return l.UnixListener.Close()
}
