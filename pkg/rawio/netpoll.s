// Empty: it lets Go take declarations without a body (netpoll.go).
