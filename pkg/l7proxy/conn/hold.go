package conn

import "time"

// holdLook is how often a peer that waits is looked at.
const holdLook = 250 * time.Millisecond

// Hold waits for d before the peer is read, or until it has closed the connection. gone says that it
// has: what it has sent is of use to nobody.
func Hold(c Conn, d time.Duration) (gone bool) {
	for d > 0 {
		time.Sleep(min(d, holdLook))
		if d -= holdLook; d > 0 {
			if _, gone := c.PeerClosed(); gone {
				return true
			}
		}
	}
	return false
}
