package bylabels

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"
)

// TestSelect: the index finds what a look at every selector finds, in the same order.
func TestSelect(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	word := func() string { return string('a' + rune(random.IntN(3))) }
	terms := []func() string{
		func() string { return word() + "=" + word() },
		func() string { return word() + "==" + word() },
		func() string { return word() + "!=" + word() },
		func() string { return word() + " in (" + word() + ")" },
		func() string { return word() + " in (" + word() + "," + word() + ")" },
		func() string { return word() + " notin (" + word() + ")" },
		func() string { return word() },
		func() string { return "!" + word() },
	}
	found := 0
	for round := range 2000 {
		var x Index[int]
		var all []labels.Selector
		for i := range random.IntN(12) {
			text := ""
			for n := range random.IntN(3) {
				if n > 0 {
					text += ","
				}
				text += terms[random.IntN(len(terms))]()
			}
			s, err := labels.Parse(text)
			if err != nil {
				t.Fatal(text, err)
			}
			if random.IntN(10) == 0 {
				s = labels.Nothing()
			}
			all = append(all, s)
			x.Add(s, i)
		}
		pod := map[string]string{}
		for range random.IntN(4) {
			pod[word()] = word()
		}
		var want []int
		for i, s := range all {
			if s.Matches(labels.Set(pod)) {
				want = append(want, i)
			}
		}
		found += len(want)
		if diff := cmp.Diff(want, x.Select(pod)); diff != "" {
			t.Fatalf("round %d: %v of %v, -want +got: %s", round, all, pod, diff)
		}
	}
	if found == 0 {
		t.Error("nothing was found")
	}
	var none *Index[int]
	if got := none.Select(map[string]string{"a": "b"}); got != nil {
		t.Errorf("a nil Index: got %v", got)
	}
}

// BenchmarkSelect: 10,000 selectors, of which one selects the pod.
func BenchmarkSelect(b *testing.B) {
	var x Index[int]
	for i := range 10_000 {
		x.Add(labels.SelectorFromSet(labels.Set{"app": fmt.Sprint("app-", i)}), i)
	}
	pod := map[string]string{"app": "app-77", "version": "v1", "pod-template-hash": "abc"}
	b.ReportAllocs()
	for b.Loop() {
		if got := x.Select(pod); len(got) != 1 {
			b.Fatal(got)
		}
	}
}
