package tap_test

import (
	"context"
	"fmt"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

func ExampleHub() {
	hub := tap.NewHub()
	sub := hub.Subscribe(func(e *tap.Event) bool { return e.Kind == tap.ResponseEnd }, 2)
	defer sub.Close()
	for _, path := range []string{"/1", "/2", "/3"} {
		hub.Emit(&tap.Event{Kind: tap.RequestInit, Path: path})
		hub.Emit(&tap.Event{Kind: tap.ResponseEnd, Path: path, Status: 200})
	}
	events, lost, err := sub.Next(context.Background())
	if err != nil {
		panic(err)
	}
	for _, e := range events {
		fmt.Println(e.Path)
	}
	fmt.Println(lost, "lost") // the buffer has room for 2
	// Output:
	// /1
	// /2
	// 1 lost
}

func ExampleEvent_Success() {
	for _, e := range []tap.Event{
		{Status: 404},
		{Status: 500},
		{Status: 200, GRPC: true, GRPCStatus: 14}, // UNAVAILABLE
		{Status: 200, GRPC: true, GRPCStatus: 5},  // NOT_FOUND
		{Status: 200, Reset: true},
		{Status: 429, Reason: mesh.ReasonRateLimited},
	} {
		fmt.Println(e.Success())
	}
	// Output:
	// true
	// false
	// false
	// true
	// false
	// false
}
