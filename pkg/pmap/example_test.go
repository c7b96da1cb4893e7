package pmap_test

import (
	"fmt"

	"github.com/underlane/underlane/pkg/pmap"
)

func ExampleMap_Edit() {
	var none pmap.Map[string, int]
	edit := none.Edit()
	edit.Set("a", 1)
	edit.Set("b", 2)
	before := edit.Map()

	edit = before.Edit()
	edit.Delete("a")
	edit.Set("b", 3)
	after := edit.Map()

	fmt.Println(before.Len(), before.Get("a"), before.Get("b"))
	fmt.Println(after.Len(), after.Get("a"), after.Get("b"))
	// Output:
	// 2 1 2
	// 1 0 3
}
