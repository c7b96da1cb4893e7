package http2

// inbox splits the input into complete frames. A frame within one input is returned in
// place; only a frame that spans inputs is copied.
type inbox struct {
	// There are two buffers, because a frame that was returned from one must stay valid
	// while the end of the same input is stored in the other.
	bufs [2][]byte
	cur  int // bufs[cur] holds the beginning of an incomplete frame
}

// recycle releases the frames that were returned before.
func (b *inbox) recycle() { b.bufs[1-b.cur] = b.bufs[1-b.cur][:0] }

// next returns the next complete frame with its header, and the input after it. If there
// is none it stores all of p and returns no frame.
func (b *inbox) next(p []byte) (frame, rest []byte, err error) {
	if len(b.bufs[b.cur]) == 0 {
		if len(p) < frameHeaderLen {
			b.keep(p)
			return nil, nil, nil
		}
		size, err := frameSize(p)
		if err != nil {
			return nil, nil, err
		}
		if len(p) < size {
			b.keep(p)
			return nil, nil, nil
		}
		return p[:size], p[size:], nil
	}
	p = b.fill(p, frameHeaderLen)
	if len(b.bufs[b.cur]) < frameHeaderLen {
		return nil, nil, nil
	}
	size, err := frameSize(b.bufs[b.cur])
	if err != nil {
		return nil, nil, err
	}
	p = b.fill(p, size)
	frame = b.bufs[b.cur]
	if len(frame) < size {
		return nil, nil, nil
	}
	b.cur = 1 - b.cur
	b.bufs[b.cur] = b.bufs[b.cur][:0]
	return frame, p, nil
}

func (b *inbox) keep(p []byte) { b.bufs[b.cur] = append(b.bufs[b.cur], p...) }

// fill moves bytes from p into the buffer until it has size bytes.
func (b *inbox) fill(p []byte, size int) []byte {
	n := min(len(p), max(0, size-len(b.bufs[b.cur])))
	b.keep(p[:n])
	return p[n:]
}

func frameSize(b []byte) (int, error) {
	h := parseHeader(b)
	if h.length > maxFrameIn {
		return 0, connErr(FrameSizeError, "frame larger than SETTINGS_MAX_FRAME_SIZE")
	}
	return frameHeaderLen + h.length, nil
}
