package tracing_test

import (
	"fmt"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tracing"
)

func ExampleBegin() {
	var c tracing.Carrier
	c.Add("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	trace := tracing.Begin(&c, mesh.TraceSampling{}, false) // the caller has sampled it
	fmt.Printf("%s, called by %s\n", trace.ID, trace.Parent)

	var none tracing.Carrier
	fmt.Println(tracing.Begin(&none, mesh.TraceSampling{}, true))
	// Output:
	// 0af7651916cd43dd8448eb211c80319c, called by b7ad6b7169203331
	// <nil>
}
