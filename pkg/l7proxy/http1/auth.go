package http1

// NTLM (MS-NTHT) and Negotiate (RFC 4559) authenticate the connection, not the
// request: what follows on it is the same user's, whoever sent it.

// CredentialsBind reports whether a value of Authorization or Proxy-Authorization
// authenticates the connection that it goes on.
func CredentialsBind[S string | []byte](value S) bool {
	binds, _ := scheme(value)
	return binds
}

// ChallengeBinds reports whether a value of WWW-Authenticate or Proxy-Authenticate,
// a list of challenges, offers to authenticate the connection. Commas within
// quoted strings are not told from the list's: that may find what is not offered, and
// misses nothing.
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

// scheme looks at the word that an element of a list begins with, which ends at
// read.
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

// isFold reports whether s is name, which is in lower case, in any case.
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

// BindsConnection reports whether the message authenticates the connection that it
// came on, or offers to.
func (h *Head) BindsConnection() bool { return h.binds }
