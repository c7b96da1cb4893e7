package watch

import (
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// shelf holds the objects of one resource, as a Reflector brings them. Of each
// it keeps only what strip leaves, and it tells of a change only when there is
// one in that: most updates of a Node or a Pod are none for the mesh.
type shelf[T metav1.Object] struct {
	strip   func(T) T // returns a new value; stripping twice changes nothing
	same    func(a, b T) bool
	changed func()

	mu      sync.Mutex
	objects map[types.UID]T
	list    []T // of objects; nil when it is to be made anew
	filled  bool
}

var _ cache.TransformingStore = (*shelf[metav1.Object])(nil)

func newShelf[T metav1.Object](strip func(T) T, changed func()) *shelf[T] {
	return &shelf[T]{
		strip: strip, changed: changed, objects: map[types.UID]T{},
		same: func(a, b T) bool { return equality.Semantic.DeepEqual(a, b) },
	}
}

// all returns every object, in no order. The slice is not changed later.
func (s *shelf[T]) all() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list == nil {
		s.list = make([]T, 0, len(s.objects))
		for _, o := range s.objects {
			s.list = append(s.list, o)
		}
	}
	return s.list
}

func (s *shelf[T]) get(uid types.UID) (T, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[uid]
	return o, ok
}

// full reports whether the resource has been listed once.
func (s *shelf[T]) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.filled
}

// Transformer is cache.TransformingStore's.
func (s *shelf[T]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		o, ok := obj.(T)
		if !ok {
			return obj, nil // a tombstone or a bookmark
		}
		return s.strip(o), nil
	}
}

// Add is cache.ReflectorStore's, as are the other methods.
func (s *shelf[T]) Add(obj any) error { return s.Update(obj) }

// Update puts obj in the place of what has its UID.
func (s *shelf[T]) Update(obj any) error {
	o, ok := obj.(T)
	if !ok {
		return fmt.Errorf("a %T among %Ts", obj, o)
	}
	o = s.strip(o)
	s.mu.Lock()
	old, known := s.objects[o.GetUID()]
	news := !known || !s.same(old, o)
	s.objects[o.GetUID()] = o
	s.list = nil
	s.mu.Unlock()
	if news {
		s.changed()
	}
	return nil
}

// Delete removes what has obj's UID.
func (s *shelf[T]) Delete(obj any) error {
	o, ok := obj.(T)
	if !ok {
		return fmt.Errorf("a %T among %Ts", obj, o)
	}
	s.mu.Lock()
	delete(s.objects, o.GetUID())
	s.list = nil
	s.mu.Unlock()
	s.changed()
	return nil
}

// Replace makes list all there is.
func (s *shelf[T]) Replace(list []any, _ string) error {
	objects := make(map[types.UID]T, len(list))
	for _, obj := range list {
		o, ok := obj.(T)
		if !ok {
			return fmt.Errorf("a %T among %Ts", obj, o)
		}
		o = s.strip(o)
		objects[o.GetUID()] = o
	}
	s.mu.Lock()
	s.objects, s.list, s.filled = objects, nil, true
	s.mu.Unlock()
	s.changed()
	return nil
}

// Resync has nothing to do: nobody is told anything twice.
func (s *shelf[T]) Resync() error { return nil }
