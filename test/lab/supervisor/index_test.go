package supervisor

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestIndexOfAPod(t *testing.T) {
	c := &cluster{lastIndex: map[int]int{1: 7}, pods: map[string]*pod{"default/old": {obj: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "old"}}, node: 1, index: 9}}}
	for text, want := range map[string]int{"": 8, "5": 5, "9": 0, "1": 0, "255": 0, "nine": 0} {
		obj := &corev1.Pod{}
		if text != "" {
			obj.Annotations = map[string]string{indexAnnotation: text}
		}
		got, err := c.index(obj, 1)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("index %q: got %d, %v, want %d, and an error if 0", text, got, err, want)
		}
	}
	obj := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{indexAnnotation: "9"}}}
	if got, err := c.index(obj, 2); got != 9 || err != nil {
		t.Errorf("index 9 of another node: got %d, %v, want 9", got, err)
	}
}
