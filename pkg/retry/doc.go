// Package retry decides whether a failed request is sent again, when, and with
// which body. It is pure: time and randomness are arguments. Times are counted
// from any fixed moment by a monotonic clock, and are not negative.
//
// After each failed attempt a driver calls Policy.Decide. If the answer is
// Retry, it calls Budget.Retry. The request is sent again only if both agree.
// Replay holds the body for the next attempt.
package retry
