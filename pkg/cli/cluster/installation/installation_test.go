package installation

import (
	"bytes"
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestVersions(t *testing.T) {
	for image, want := range map[string]string{"a": "latest", "r:5000/a": "latest", "r:5000/a:1.2": "1.2", "a:1@sha256:00": "1", "a@sha256:00": "latest"} {
		if got := imageTag(&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: image}}}}); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
	if got := countVersions(map[string]int{"1": 2, "2": 1}); got != "1 (2 pods), 2 (1 pods)" {
		t.Errorf("versions %q, want both with their pods", got)
	}
}

func TestPollEndsWithTheLastLine(t *testing.T) {
	var progress bytes.Buffer
	err := Poll(t.Context(), 10*time.Millisecond, &progress, func(context.Context) (string, bool, error) { return "1 of 2", false, nil })
	if err == nil || err.Error() != "1 of 2: not done after 10ms" || progress.String() != "1 of 2\n" {
		t.Errorf("error %v, progress %q; want the last line in both", err, progress.String())
	}
}
