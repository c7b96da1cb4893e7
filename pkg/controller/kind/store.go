package kind

import (
	"fmt"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/underlane/underlane/pkg/controller/translate"
)

// StoreOf holds the objects of one kind, which a Reflector of client-go delivers.
// It keeps only the fields that the kind's strip leaves, and calls changed only
// when these have changed: most updates of a Node or a Pod change nothing for the
// mesh.
type StoreOf[T metav1.Object] struct {
	kind    *kind[T]
	changed func()
	sharing sharing

	mu      sync.Mutex
	objects map[types.UID]T
	list    []T // of objects; nil when All must build it again
	listed  bool
	news    map[types.UID]T // what has changed since the last Take; gone has those that are gone
	gone    map[types.UID]T
}

// Store is a StoreOf of any type of objects. Its methods may be called
// concurrently.
type Store interface {
	// Strip returns the part of an object that Add, Update and Replace store, in a form that
	// only they know. It returns other values unchanged. A list whose objects are stripped
	// before they are stored takes less memory.
	Strip(obj any) (any, error)

	// A Reflector calls these methods. They fail for an object of another kind.
	Add(obj any) error
	Update(obj any) error
	Delete(obj any) error
	Replace(list []any, resourceVersion string) error
	Resync() error

	// Synced reports whether the resource has been listed once.
	Synced() bool
	// Fill adds the objects to their list in to.
	Fill(to *translate.Objects)
	// Take adds what has changed since the last call, those that are gone first.
	Take(to *translate.Batch)
}

func newStore[T metav1.Object](k *kind[T], changed func()) *StoreOf[T] {
	return &StoreOf[T]{kind: k, changed: changed, sharing: newSharing(), objects: map[types.UID]T{}, news: map[types.UID]T{}, gone: map[types.UID]T{}}
}

// All returns every object, in no particular order. The slice is not changed later.
func (s *StoreOf[T]) All() []T {
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

// Get returns the object with this UID, if there is one.
func (s *StoreOf[T]) Get(uid types.UID) (T, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[uid]
	return o, ok
}

// Synced implements Store.
func (s *StoreOf[T]) Synced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listed
}

// Fill implements Store. Kinds of policies share a list.
func (s *StoreOf[T]) Fill(to *translate.Objects) {
	slot := s.kind.slot(to)
	if len(*slot) == 0 {
		*slot = s.All()
		return
	}
	*slot = append(slices.Clip(*slot), s.All()...)
}

// Take implements Store. What changed several times is in the batch once, as it is now.
func (s *StoreOf[T]) Take(to *translate.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.gone {
		to.Changes = append(to.Changes, translate.Change{Object: o, Gone: true})
	}
	for _, o := range s.news {
		to.Changes = append(to.Changes, translate.Change{Object: o})
	}
	s.news, s.gone = emptied(s.news), emptied(s.gone)
}

// emptied returns an empty map: another one, if all was large as after a list.
func emptied[K comparable, V any](all map[K]V) map[K]V {
	if len(all) > 1024 {
		return map[K]V{}
	}
	clear(all)
	return all
}

// note notes that o is new or has changed. The caller holds mu.
func (s *StoreOf[T]) note(o T) {
	s.news[o.GetUID()] = o
	delete(s.gone, o.GetUID())
}

// noteGone notes that o is gone. The caller holds mu.
func (s *StoreOf[T]) noteGone(o T) {
	s.gone[o.GetUID()] = o
	delete(s.news, o.GetUID())
}

func (s *StoreOf[T]) same(a, b T) bool {
	if s.kind.same != nil {
		return s.kind.same(a, b)
	}
	return equality.Semantic.DeepEqual(a, b)
}

// taken is an object that was stripped, and is stored as it is. To strip it again would leave as
// much garbage as objects, and later as much room of their size in the heap.
type taken[T metav1.Object] struct{ object T }

// GetObjectMeta implements metav1.ObjectMetaAccessor: a Reflector puts it in a list by its name.
func (t taken[T]) GetObjectMeta() metav1.Object { return t.object }

// Strip implements Store.
func (s *StoreOf[T]) Strip(obj any) (any, error) {
	if o, ok := s.read(obj); ok {
		return taken[T]{o}, nil
	}
	return obj, nil // a tombstone or a bookmark
}

// read returns what is stored of an object.
func (s *StoreOf[T]) read(obj any) (T, bool) {
	if t, is := obj.(taken[T]); is {
		return t.object, true
	}
	o, ok := s.kind.read(obj)
	if ok && s.kind.share != nil {
		old, _ := s.Get(o.GetUID())
		s.kind.share(&s.sharing, o, old)
	}
	return o, ok
}

// Add does the same as Update.
func (s *StoreOf[T]) Add(obj any) error { return s.Update(obj) }

// Update replaces the object with the UID of obj.
func (s *StoreOf[T]) Update(obj any) error {
	o, ok := s.read(obj)
	if !ok {
		return fmt.Errorf("a %T among %Ts", obj, o)
	}
	s.mu.Lock()
	old, known := s.objects[o.GetUID()]
	news := !known || !s.same(old, o)
	s.objects[o.GetUID()] = o
	s.list = nil
	if news {
		s.note(o)
	}
	s.mu.Unlock()
	if news {
		s.changed()
	}
	return nil
}

// Delete removes the object with the UID of obj.
func (s *StoreOf[T]) Delete(obj any) error {
	o, ok := s.read(obj)
	if !ok {
		return fmt.Errorf("a %T among %Ts", obj, o)
	}
	s.mu.Lock()
	if old, known := s.objects[o.GetUID()]; known {
		delete(s.objects, o.GetUID())
		s.noteGone(old)
	}
	s.list = nil
	s.mu.Unlock()
	s.changed()
	return nil
}

// Replace replaces all objects by those of list.
func (s *StoreOf[T]) Replace(list []any, _ string) error {
	objects := make(map[types.UID]T, len(list))
	for _, obj := range list {
		o, ok := s.read(obj)
		if !ok {
			return fmt.Errorf("a %T among %Ts", obj, o)
		}
		objects[o.GetUID()] = o
	}
	s.mu.Lock()
	for uid, o := range objects {
		if old, known := s.objects[uid]; !known || !s.same(old, o) {
			s.note(o)
		}
	}
	for uid, old := range s.objects {
		if _, there := objects[uid]; !there {
			s.noteGone(old)
		}
	}
	s.objects, s.list, s.listed = objects, nil, true
	s.mu.Unlock()
	s.changed()
	return nil
}

// Resync does nothing, because unchanged objects are not reported again.
func (s *StoreOf[T]) Resync() error { return nil }
