package mesh

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// MaxLabels is how many bytes of labels of a pod are told to agents. A pod with more is known
// by the first ones, in the order of their keys.
const MaxLabels = 4 << 10

// Labels are the labels of a pod: key=value, ascending by key, with commas between. Neither
// keys nor values can have these two characters. One string takes less memory than a map, and
// the pods of one workload share it. The zero Labels are none.
type Labels string

// LabelsOf returns labels in this form, without those beyond MaxLabels.
func LabelsOf(labels map[string]string) Labels {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		value := labels[key]
		if key == "" || strings.ContainsAny(key, "=,") || strings.ContainsAny(value, "=,") {
			continue // Kubernetes has no such labels, but a file may
		}
		if b.Len()+len(key)+len(value)+2 > MaxLabels {
			break
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(key)
		b.WriteByte('=')
		b.WriteString(value)
	}
	return Labels(b.String())
}

// Get returns the value of a label, false if the pod does not have it. It allocates nothing.
func (l Labels) Get(key string) (value string, ok bool) {
	for k, v := range l.all() {
		if k == key {
			return v, true
		}
	}
	return "", false
}

func (l Labels) all() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for rest := string(l); rest != ""; {
			var pair string
			pair, rest, _ = strings.Cut(rest, ",")
			if key, value, ok := strings.Cut(pair, "="); ok && !yield(key, value) {
				return
			}
		}
	}
}
