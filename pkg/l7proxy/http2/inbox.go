package http2

// inbox cuts the input into whole frames. A frame that lies within one input
// is returned in place; only one that spans inputs is copied.
type inbox struct {
	// Two buffers, because a frame returned from one of them must stay valid
	// while the tail of the same input goes into the other.
	bufs [2][]byte
	cur  int // bufs[cur] holds the beginning of an incomplete frame
}

// recycle says that frames returned before are no longer in use.
func (b *inbox) recycle() { b.bufs[1-b.cur] = b.bufs[1-b.cur][:0] }

// next returns the next whole frame, header included, and the input after it;
// or no frame, having kept all of p.
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

// fill moves bytes from p until the buffer holds size bytes.
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
