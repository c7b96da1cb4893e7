package supervisor

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/underlane/underlane/test/lab/layout"
)

// indexAnnotation gives a pod a certain index on its node, and so its addresses: those of
// a pod that is gone, for tests of addresses that are reused.
const indexAnnotation = "lab.underlane.io/index"

// index returns the index for a new pod of a node. mu is held.
func (c *cluster) index(obj *corev1.Pod, node int) (int, error) {
	text, ok := obj.Annotations[indexAnnotation]
	if !ok {
		return c.freeIndex(node)
	}
	index, err := strconv.Atoi(text)
	if err != nil || index < layout.FirstPod || index > layout.LastPod {
		return 0, fmt.Errorf("annotation %s: %q, want a number from %d to %d", indexAnnotation, text, layout.FirstPod, layout.LastPod)
	}
	for _, p := range c.pods {
		if p.node == node && p.index == index {
			return 0, fmt.Errorf("annotation %s: %d is the index of the pod %s", indexAnnotation, index, p.obj.Name)
		}
	}
	return index, nil
}
