package tapv1alpha1

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFiguresQuery(t *testing.T) {
	full := FiguresQuery{
		By: ByPod, Namespace: "shop", Kind: "deployment", Name: "web", To: "svc/db", ToNamespace: "data", From: "deploy/a b", FromNamespace: "c&d",
		Protocol: "grpc", Side: SideDestination, Window: 15 * time.Minute, End: time.Unix(1_800_000_000, 5).UTC(), Step: 30 * time.Second, Buckets: true, Selector: "app=web,tier!=db",
	}
	empty := FiguresQuery{By: ByWorkload, Side: SideSource, Window: time.Minute}
	for _, tc := range []struct{ in, want FiguresQuery }{{full, full}, {FiguresQuery{}, empty}} {
		values, err := url.ParseQuery(tc.in.Values().Encode())
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseFigures(values)
		if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got): %s", err, diff)
		}
	}
	for _, bad := range []string{
		"windwo=1m", "window=much", "window=-1m", "window=1s", "window=25h", "step=5", "step=15", "step=-10", "step=x", "window=24h&step=10", "step=86410", "step=9223372036", "step=9223372036854775807",
		"by=cluster", "side=up", "end=yesterday", "buckets=perhaps", "name=web",
	} {
		values, _ := url.ParseQuery(bad)
		if q, err := ParseFigures(values); err == nil {
			t.Errorf("%s: %+v, want an error", bad, q)
		}
	}
}

// What ParseFigures accepts, Values writes back.
func FuzzFiguresQuery(f *testing.F) {
	f.Add("by=pod&namespace=shop&window=5m&step=10&end=2026-11-29T06:00:00Z&buckets=true")
	f.Add("kind=svc&name=db&side=destination&to=deploy%2Fx")
	f.Fuzz(func(t *testing.T, text string) {
		values, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		q, err := ParseFigures(values)
		if err != nil {
			return
		}
		again, err := ParseFigures(q.Values())
		if diff := cmp.Diff(q, again); diff != "" || err != nil {
			t.Errorf("%v (-first +again): %s", err, diff)
		}
	})
}

func TestFiguresPath(t *testing.T) {
	for want, got := range map[string]string{
		"/apis/tap.underlane.io/v1alpha1/figures":                      FiguresPath(""),
		"/apis/tap.underlane.io/v1alpha1/namespaces/shop/figures":      FiguresPath("shop"),
		"/apis/tap.underlane.io/v1alpha1/namespaces/..%2Fshop/figures": FiguresPath("../shop"),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
