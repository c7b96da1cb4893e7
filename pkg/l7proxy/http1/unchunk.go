package http1

import "bytes"

// Unchunk returns the content of a chunked body, or of the begin of one, whose bytes Body.Next
// has accepted. Chunk extensions and trailers are dropped.
func Unchunk(body []byte) (content []byte) {
	for len(body) > 0 {
		size := 0
		for _, c := range body {
			digit, ok := hex(c)
			if !ok {
				break
			}
			size = size<<4 | int(digit)
		}
		end := bytes.IndexByte(body, '\n')
		if size <= 0 || end < 0 {
			return content
		}
		body = body[end+1:]
		n := min(size, len(body))
		content = append(content, body[:n]...)
		body = bytes.TrimPrefix(bytes.TrimPrefix(body[n:], []byte("\r")), []byte("\n"))
	}
	return content
}
