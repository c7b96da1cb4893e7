package watch

import (
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/underlane/underlane/pkg/controller/translate"
)

// store holds the objects of one kind, as a Reflector brings them. Of each it
// keeps only what the kind's strip leaves, and it calls changed only for a change
// in that: most updates of a Node or a Pod are none for the mesh.
type store[T metav1.Object] struct {
	kind    *kind[T]
	changed func()

	mu      sync.Mutex
	objects map[types.UID]T
	list    []T // of objects; nil when it is to be made anew
	listed  bool
}

// objectStore is a store, whatever its type of objects.
type objectStore interface {
	cache.TransformingStore
	// synced reports whether the resource has been listed once.
	synced() bool
	// fill puts the objects into their slot in to.
	fill(to *translate.Objects)
}

func newStore[T metav1.Object](k *kind[T], changed func()) *store[T] {
	return &store[T]{kind: k, changed: changed, objects: map[types.UID]T{}}
}

// all returns every object, in no order. The slice is not changed later.
func (s *store[T]) all() []T {
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

func (s *store[T]) get(uid types.UID) (T, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[uid]
	return o, ok
}

func (s *store[T]) synced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listed
}

func (s *store[T]) fill(to *translate.Objects) { *s.kind.slot(to) = s.all() }

func (s *store[T]) same(a, b T) bool {
	if s.kind.same != nil {
		return s.kind.same(a, b)
	}
	return equality.Semantic.DeepEqual(a, b)
}

// Transformer implements cache.TransformingStore.
func (s *store[T]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		o, ok := obj.(T)
		if !ok {
			return obj, nil // a tombstone or a bookmark
		}
		return s.kind.strip(o), nil
	}
}

// Add implements cache.ReflectorStore, as do the other methods.
func (s *store[T]) Add(obj any) error { return s.Update(obj) }

// Update replaces the object with the UID of obj.
func (s *store[T]) Update(obj any) error {
	o, ok := obj.(T)
	if !ok {
		return fmt.Errorf("a %T among %Ts", obj, o)
	}
	o = s.kind.strip(o)
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

// Delete removes the object with the UID of obj.
func (s *store[T]) Delete(obj any) error {
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

// Replace replaces all objects by those of list.
func (s *store[T]) Replace(list []any, _ string) error {
	objects := make(map[types.UID]T, len(list))
	for _, obj := range list {
		o, ok := obj.(T)
		if !ok {
			return fmt.Errorf("a %T among %Ts", obj, o)
		}
		o = s.kind.strip(o)
		objects[o.GetUID()] = o
	}
	s.mu.Lock()
	s.objects, s.list, s.listed = objects, nil, true
	s.mu.Unlock()
	s.changed()
	return nil
}

// Resync does nothing: what did not change is not passed on again.
func (s *store[T]) Resync() error { return nil }
