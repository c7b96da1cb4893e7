package http1

// NTLM (MS-NTHT) and Negotiate (RFC 4559) authenticate the connection, not the request:
// a server takes all later requests on it for the same user's.

// CredentialsBind reports whether a value of Authorization or Proxy-Authorization
// authenticates the connection on which it is sent.
func CredentialsBind[S string | []byte](value S) bool {
	binds, _ := scheme(value)
	return binds
}

// ChallengeBinds reports whether a value of WWW-Authenticate or Proxy-Authenticate, a
// list of challenges, offers to authenticate the connection. It does not distinguish
// commas within quoted strings from those of the list: it may report an offer that is
// none, but misses no offer.
func ChallengeBinds[S string | []byte](value S) bool {
	for {
		binds, read := scheme(value)
		if binds {
			return true
		}
		for read < len(value) && value[read] != ',' {
			read++
		}
		if read == len(value) {
			return false
		}
		value = value[read+1:]
	}
}

// scheme examines the first word of a list's element, which ends at read.
func scheme[S string | []byte](value S) (binds bool, read int) {
	from := 0
	for from < len(value) && (value[from] == ' ' || value[from] == '\t') {
		from++
	}
	read = from
	for read < len(value) && class[value[read]]&cToken != 0 {
		read++
	}
	return isFold(value[from:read], "ntlm") || isFold(value[from:read], "negotiate"), read
}

// isFold compares s with name, which is in lower case, regardless of case.
func isFold[S string | []byte](s S, name string) bool {
	if len(s) != len(name) {
		return false
	}
	for i := range len(s) {
		if lower(s[i]) != name[i] {
			return false
		}
	}
	return true
}

// BindsConnection reports whether the message authenticates the connection on which it
// arrived, or offers to.
func (h *message) BindsConnection() bool { return h.binds }
