package tap

import (
	"net/netip"
	"strings"
)

// maxHostname is the length of the longest DNS name.
const maxHostname = 253

// Hostname returns the DNS name in an authority ("host", "host:port") or server name, in
// lower case and without a dot at its end. It returns "" for an address, and for what no
// DNS name can be: clients write these, and what it returns becomes a label. It allocates
// only for a name with upper case letters. The result may share memory with text.
func Hostname(text string) string {
	host, port, _ := strings.Cut(text, ":")
	if strings.Contains(port, ":") {
		return "" // an IPv6 address
	}
	host = strings.TrimSuffix(host, ".")
	if host == "" || len(host) > maxHostname {
		return ""
	}
	label, upper := 0, false
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			label++
		case 'A' <= c && c <= 'Z':
			label++
			upper = true
		case c == '.' && label > 0:
			label = 0
		default:
			return ""
		}
		if label > 63 {
			return ""
		}
	}
	if label == 0 {
		return "" // two dots at the end
	}
	if last := host[len(host)-1]; '0' <= last && last <= '9' {
		if _, err := netip.ParseAddr(host); err == nil {
			return ""
		}
	}
	if upper {
		return strings.ToLower(host)
	}
	return host
}
