package hostile

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// probeEvery is how often an outsider tries a strict pod.
const probeEvery = 50 * time.Millisecond

// probed is what an outsider saw of a strict pod.
type probed struct {
	Tries int
	Past  int            // it got an answer of the application
	Saw   map[string]int // what it saw, and how often
}

// probe tries to get into a strict pod, by HTTP and by opaque bytes, until it is told
// to end.
func probe(o order) probed {
	out := probed{Saw: map[string]int{}}
	told := untilTold()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-told:
			return out
		case <-tick.C:
		}
		out.Tries++
		what, past := tryHTTP(o.Addrs["http"])
		if out.Tries%2 == 0 {
			what, past = tryEcho(o.Addrs["echo"])
		}
		out.Saw[what]++
		if past {
			out.Past++
		}
	}
}

func tryHTTP(addr string) (what string, past bool) {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return "no connection", false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(c, "GET /bytes/1 HTTP/1.1\r\nHost: vault\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "no response", false
	}
	return fmt.Sprint(resp.StatusCode), resp.StatusCode == 200
}

func tryEcho(addr string) (what string, past bool) {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return "no connection", false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(c, "\x00let me in")
	if n, _ := c.Read(make([]byte, 1)); n > 0 {
		return "echo", true
	}
	return "no echo", false
}
