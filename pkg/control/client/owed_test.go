package client

import (
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/underlane/underlane/api/control/v1"
)

// TestOwed: an answer waits as long as the controller allows, for others and for requests.
func TestOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOwed()
		defer o.stop()
		start := time.Now()
		if !o.add(&pb.Answer{Nonce: 1}, 5000) {
			t.Error("the answer may not wait")
		}
		time.Sleep(3 * time.Second)
		if !o.add(&pb.Answer{Nonce: 2}, 5000) {
			t.Error("the second answer may not wait")
		}
		<-o.due
		if late := time.Since(start); late != 5*time.Second {
			t.Errorf("due after %s", late)
		}
		if a := o.take(); a.GetNonce() != 2 {
			t.Errorf("the answer is %v", a)
		}
		if o.take() != nil || o.due != nil {
			t.Error("an answer is sent twice")
		}
		if o.add(&pb.Answer{Nonce: 3}, 0) || o.take().GetNonce() != 3 {
			t.Error("an answer waits that may not")
		}
		o.add(&pb.Answer{Nonce: 4}, 5000)
		if o.add(&pb.Answer{Nonce: 5, Error: "no"}, 5000) || o.take().GetError() == "" {
			t.Error("a refusal waits")
		}
		start = time.Now()
		o.add(&pb.Answer{Nonce: 6}, 1<<31)
		<-o.due
		if time.Since(start) != mostOwed {
			t.Errorf("due after %s", time.Since(start))
		}
	})
}
