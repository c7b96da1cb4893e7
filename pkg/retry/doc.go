// Package retry decides whether a failed request is sent again, when, and with
// what body. It is pure: time and randomness are arguments. Times count from
// any fixed moment, by a clock that never goes back, and are not negative.
//
// A driver asks Policy.Decide after each failed attempt and then, for what may
// be retried, Budget.Retry: a request is sent again only if both agree. Replay
// holds the body for that.
package retry
