package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

const (
	receiveBuffer = 32 << 20 // bytes; holds packets while this process is not scheduled
	pollInterval  = 50       // ms between checks of the context

	// drainLimit bounds the reading of packets that wait at the end of the context. It
	// is for a link that is never idle.
	drainLimit = 10 * time.Second
)

// Capture writes all frames on an interface of this network namespace to w, as pcap,
// until ctx ends. It writes the file header when the capture has started. It needs
// CAP_NET_RAW, but no program that a machine may lack.
func Capture(ctx context.Context, w io.Writer, name string) error {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("capture on %s: %w", name, err)
	}
	all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8) // network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
	if err != nil {
		return fmt.Errorf("capture on %s: packet socket (are you root?): %w", name, err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		return fmt.Errorf("capture on %s: receive buffer: %w", name, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: iface.Index}); err != nil {
		return fmt.Errorf("capture on %s: bind: %w", name, err)
	}
	if err := WriteHeader(w); err != nil {
		return err
	}
	return copyFrames(ctx, w, fd)
}

// copyFrames continues after the end of ctx until it has the frames from before,
// because it may not have been scheduled for a while.
func copyFrames(ctx context.Context, w io.Writer, fd int) error {
	frame := make([]byte, maxFrame)
	var end time.Time
	for {
		ended := ctx.Err() != nil
		switch {
		case ended && end.IsZero():
			end = time.Now().Add(drainLimit)
		case ended && time.Now().After(end):
			return nil
		}
		n, _, err := unix.Recvfrom(fd, frame, 0)
		switch {
		case errors.Is(err, unix.EAGAIN) && ended:
			return nil
		case errors.Is(err, unix.EAGAIN):
			ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if _, err := unix.Poll(ready, pollInterval); err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("capture: wait: %w", err)
			}
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("capture: receive: %w", err)
		default:
			if err := WriteFrame(w, time.Now(), frame[:n]); err != nil {
				return err
			}
		}
	}
}
