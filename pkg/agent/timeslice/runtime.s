// Empty: it lets Go take declarations without a body (runtime.go).
