package limit_test

import (
	"fmt"
	"time"

	"github.com/underlane/underlane/pkg/limit"
)

func ExampleNewRate() {
	_, err := limit.NewRate(100, time.Second, 0)
	fmt.Println(err)
	// Output: rate of 100 in 1s, 0 at once: want at least one event, of a nanosecond at least
}

func ExampleBucket() {
	rate, err := limit.NewRate(10, time.Second, 2) // 10 in a second, 2 at once
	if err != nil {
		panic(err)
	}
	var b limit.Bucket
	now := 5 * time.Second // since any fixed moment
	for range 3 {
		fmt.Println(b.Take(now, rate))
	}
	fmt.Println(b.Take(now+100*time.Millisecond, rate))
	fmt.Println(b.Idle(now+100*time.Millisecond), b.Idle(now+time.Minute))
	// Output:
	// true 0s
	// true 0s
	// false 100ms
	// true 0s
	// false true
}

func ExampleKeyed() {
	rate, err := limit.NewRate(1, time.Second, 1)
	if err != nil {
		panic(err)
	}
	perClient := limit.NewKeyed[string](rate, 1000)
	now := 5 * time.Second
	for _, client := range []string{"web", "web", "batch"} {
		ok, wait := perClient.Take(now, client)
		fmt.Println(client, ok, wait)
	}
	fmt.Println(perClient.Len())
	// Output:
	// web true 0s
	// web false 1s
	// batch true 0s
	// 2
}
