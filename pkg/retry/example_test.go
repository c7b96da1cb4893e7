package retry_test

import (
	"fmt"
	"math"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
)

// A driver asks the policy first and then the budget.
func Example() {
	policy, err := retry.New(&mesh.RouteRetry{Codes: []uint16{503}, Attempts: 2})
	if err != nil {
		panic(err)
	}
	budget, err := retry.NewBudget(mesh.DefaultRetryBudget)
	if err != nil {
		panic(err)
	}
	now := time.Minute // since any fixed moment
	budget.Request(now)
	failed := retry.Attempt{Cause: retry.Status, Status: 503, Method: "GET", BodyKept: true}
	for {
		decision := policy.Decide(&failed)
		if decision != retry.Retry || !budget.Retry(now) {
			fmt.Println(decision)
			return
		}
		wait := policy.Backoff(failed.Retries, 0)
		fmt.Println("again after", wait)
		now += wait
		failed.Retries++
	}
	// Output:
	// again after 25ms
	// again after 50ms
	// exhausted
}

func ExampleNew() {
	_, err := retry.New(&mesh.RouteRetry{Codes: []uint16{200}})
	fmt.Println(err)
	policy, err := retry.New(nil)
	fmt.Println(policy == retry.Default, err)
	// Output:
	// retry: HTTP status 200: want 400 to 599
	// true <nil>
}

func ExamplePolicy_Decide() {
	policy, err := retry.New(&mesh.RouteRetry{Codes: []uint16{503}, Attempts: 1})
	if err != nil {
		panic(err)
	}
	for _, a := range []retry.Attempt{
		{Cause: retry.Status, Status: 503, Method: "POST", BodyKept: true},
		{Cause: retry.Status, Status: 404, Method: "GET", BodyKept: true},
		{Cause: retry.Broken, Method: "GET", BodyKept: true},
		{Cause: retry.Broken, Method: "POST", BodyKept: true},
		{Cause: retry.Unsent, Method: "POST", BodyKept: true},
		{Cause: retry.Unsent, Method: "POST"}, // the body was too long to keep
		{Cause: retry.Broken, Method: "GET", BodyKept: true, Retries: 1},
	} {
		fmt.Println(policy.Decide(&a))
	}
	// Output:
	// retry
	// not-retryable
	// retry
	// not-idempotent
	// retry
	// no-body
	// exhausted
}

func ExamplePolicy_RetriesSent() {
	policy, err := retry.New(&mesh.RouteRetry{Codes: []uint16{503}, Attempts: 1})
	if err != nil {
		panic(err)
	}
	fmt.Println(policy.RetriesSent(), retry.Default.RetriesSent())
	// Output: true false
}

func ExamplePolicy_Backoff() {
	policy, err := retry.New(&mesh.RouteRetry{Codes: []uint16{503}, Attempts: 3, Backoff: 100 * time.Millisecond})
	if err != nil {
		panic(err)
	}
	for n := range 3 {
		fmt.Println(policy.Backoff(n, 0), "to", policy.Backoff(n, math.MaxUint64).Round(time.Millisecond))
	}
	// Output:
	// 100ms to 150ms
	// 200ms to 300ms
	// 400ms to 600ms
}

func ExampleIdempotent() {
	fmt.Println(retry.Idempotent("PUT"), retry.Idempotent("POST"))
	// Output: true false
}

func ExampleBudget() {
	budget, err := retry.NewBudget(mesh.RetryBudget{Percent: 20, Interval: 10 * time.Second})
	if err != nil {
		panic(err)
	}
	now := time.Minute // since any fixed moment
	for range 8 {
		budget.Request(now)
	}
	// 2 retries are a fifth of 8 requests and 2 retries.
	fmt.Println(budget.Retry(now), budget.Retry(now), budget.Retry(now))
	// Output: true true false
}

func ExampleReplay() {
	var body retry.Replay
	body.Keep([]byte("hello "))
	body.Keep([]byte("world"))
	fmt.Printf("%v %q\n", body.Complete(), body.Body())
	body.Keep(make([]byte, retry.ReplayLimit)) // more than is kept
	fmt.Printf("%v %q\n", body.Complete(), body.Body())
	// Output:
	// true "hello world"
	// false ""
}
