package control

import "context"

// Receive turns a stream's Recv into a channel, so that a caller can wait for
// messages and other events in one select. ended receives the error that ends the
// stream. The goroutine of Receive ends when recv fails, or when ctx has ended and
// another message arrives. The caller must therefore end the stream when ctx ends.
func Receive[T any](ctx context.Context, recv func() (T, error)) (messages <-chan T, ended <-chan error) {
	out, failed := make(chan T), make(chan error, 1)
	go func() {
		for {
			v, err := recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case out <- v:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, failed
}
