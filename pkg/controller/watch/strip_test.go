package watch

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/types"

	"github.com/underlane/underlane/pkg/controller/kind"
	"github.com/underlane/underlane/pkg/controller/translate"
)

// TestStripLeavesWhatTranslateReads: the golden files' objects mean the same
// when stripped, also twice, and are not changed by it.
func TestStripLeavesWhatTranslateReads(t *testing.T) {
	files, err := filepath.Glob("../translate/testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := decode(text)
		if err != nil {
			t.Fatal(err)
		}
		whole, stripped := &translate.Objects{}, &translate.Objects{}
		var stores []kind.Store
		for _, k := range kind.All {
			stores = append(stores, k.NewStore(func() {}))
		}
		for _, decoded := range objects {
			o := decoded.Object
			o.SetUID(types.UID(fmt.Sprintf("%T %s/%s", o, o.GetNamespace(), o.GetName())))
			for i, k := range kind.All {
				if !k.Add(whole, o) {
					continue
				}
				once, err := stores[i].Strip(o)
				if err == nil {
					err = stores[i].Update(once) // strips it again
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, s := range stores {
			s.Fill(stripped)
		}
		before, _ := json.Marshal(whole)
		want, got := translate.Translate(whole, "cluster.local"), translate.Translate(stripped, "cluster.local")
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
			t.Error(path, diff)
		}
		if after, _ := json.Marshal(whole); string(before) != string(after) {
			t.Error(path, "was changed")
		}
	}
}
