package controller

import (
	"fmt"
	"testing"

	"github.com/underlane/underlane/pkg/controller/translate"
)

func TestTranslationOptions(t *testing.T) {
	c, err := (&Options{TrustDomain: "td", DefaultPolicy: "deny", ClusterNetworks: []string{"10.1.2.3/8", "fd00::1"}}).translation()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%s %s", c.TrustDomain, c.ClusterNetworks); got != "td [10.0.0.0/8 fd00::1/128]" {
		t.Error("got", got)
	}
	if c.Policy == (translate.DefaultPolicy{}) {
		t.Error("the default policy is not read")
	}
	for _, bad := range []Options{{DefaultPolicy: "some"}, {ClusterNetworks: []string{"10.0.0.0/33"}}, {ClusterNetworks: []string{"::ffff:10.0.0.0/104"}}, {ClusterNetworks: []string{"host"}}} {
		if c, err := bad.translation(); err == nil {
			t.Errorf("%+v: got %+v, want an error", bad, c)
		}
	}
}
