package mesh

import (
	"fmt"
	"strings"
	"testing"
)

func TestLabels(t *testing.T) {
	l := LabelsOf(map[string]string{"tier": "", "app": "web", "a.example/b": "c", "no=key": "x", "bad": "a,b"})
	if want := Labels("a.example/b=c,app=web,tier="); l != want {
		t.Fatalf("got %q, want %q", l, want)
	}
	for key, want := range map[string]string{"app": "web true", "tier": " true", "a.example/b": "c true", "ap": " false", "": " false", "web": " false"} {
		value, ok := l.Get(key)
		if got := fmt.Sprint(value, " ", ok); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { l.Get("tier") }); n != 0 {
		t.Errorf("Get allocates %v times", n)
	}
	if _, ok := Labels("").Get("app"); ok {
		t.Error("no labels have one")
	}
}

// TestLabelsAreBounded: a pod with very many labels takes no more of each agent.
func TestLabelsAreBounded(t *testing.T) {
	many := map[string]string{}
	for i := range 10_000 {
		many[fmt.Sprintf("key-%05d", i)] = strings.Repeat("v", 63)
	}
	l := LabelsOf(many)
	if _, ok := l.Get("key-00000"); !ok || len(l) > MaxLabels || len(l) < MaxLabels-100 {
		t.Errorf("%d bytes, and the first label: %v; want about %d with it", len(l), ok, MaxLabels)
	}
}
