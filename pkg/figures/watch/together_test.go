package watch

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// As many questions as may be watched are all answered at each step, although they are due
// at the same moment: only some at once, so that there is room for those who ask themselves.
func TestQuestionsAreNotAskedAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int64
		h := &Hub{Ask: func(context.Context, tapv1alpha1.FiguresQuery) (any, error) {
			defer running.Add(-1)
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(300 * time.Millisecond)
			return "answer", nil
		}}
		var readers []*reader
		for i := range MaxQuestions {
			q, every := query(t, fmt.Sprintf("namespace=shop-%d", i))
			readers = append(readers, start(h, fmt.Sprintf("user-%d", i/MaxQuestionsUser), q, every, nil))
		}
		time.Sleep(35 * time.Second)
		synctest.Wait()
		if n := most.Load(); n > maxAtOnce {
			t.Errorf("%d questions at once, want at most %d", n, maxAtOnce)
		}
		for i, r := range readers {
			r.mu.Lock()
			if n := len(r.lines); n < 4 {
				t.Errorf("question %d: %d answers in 35 s, want one at once and one each 10 s", i, n)
			}
			r.mu.Unlock()
			_ = r.end()
		}
		time.Sleep(time.Second) // questions that are being asked end
	})
}
