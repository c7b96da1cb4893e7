package node

import (
	"net/http"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/check"
)

// CheckAPI answers the path /check of the node's dashboard with the result of `agent check`,
// which it runs when it is asked.
func (f *Flags) CheckAPI(k Kernel) http.Handler {
	return check.Handler(tapv1alpha1.GroupVersion, func() []check.Category { return f.checks(k) })
}
