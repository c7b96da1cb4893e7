package release_test

import (
	"errors"
	"fmt"

	"github.com/underlane/underlane/pkg/release"
)

func ExampleChannelOf() {
	fmt.Println(release.ChannelOf("v0.2.0"))
	fmt.Println(release.ChannelOf("v0.3.0-edge.4"))
	// Output:
	// stable <nil>
	// edge <nil>
}

func ExampleCheckUpgrade() {
	fmt.Println(release.CheckUpgrade("v0.2.0", "v0.3.1"))
	err := release.CheckUpgrade("v0.2.0", "v0.4.0")
	fmt.Println(errors.Is(err, release.ErrSkips))
	// Output:
	// <nil>
	// true
}
