package selfcheck

import (
	"fmt"
	"net/netip"
	"strings"
)

// Pod is a row of `lab pods`.
type Pod struct {
	Namespace, Name, Node string
	Addrs                 []netip.Addr
}

// ParsePods parses the table of `lab pods`. It finds the columns by the header.
func ParsePods(table string) ([]Pod, error) {
	var pods []Pod
	var header []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if header == nil {
			header = fields
			continue
		}
		if len(fields) < len(header) {
			return nil, fmt.Errorf("read pods: row %q has fewer columns than the header %q", strings.TrimSpace(line), header)
		}
		var p Pod
		for i, column := range header {
			switch column {
			case "NAMESPACE":
				p.Namespace = fields[i]
			case "NAME":
				p.Name = fields[i]
			case "NODE":
				p.Node = fields[i]
			case "IP", "IP6":
				addr, err := netip.ParseAddr(fields[i])
				if err != nil {
					return nil, fmt.Errorf("read pods: row %q: %w", strings.TrimSpace(line), err)
				}
				p.Addrs = append(p.Addrs, addr)
			}
		}
		pods = append(pods, p)
	}
	return pods, nil
}
