package issuer

import (
	"fmt"
	"sync"
)

// object holds the single object that a Reflector delivers. The Reflector selects
// it by name.
type object[T any] struct {
	changed func()

	mu     sync.Mutex
	value  T
	there  bool
	listed bool
}

func newObject[T any](changed func()) *object[T] { return &object[T]{changed: changed} }

func (o *object[T]) get() (T, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.value, o.there
}

func (o *object[T]) exists() bool {
	_, ok := o.get()
	return ok
}

// filled reports whether the API server has told if the object exists.
func (o *object[T]) filled() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.listed
}

func (o *object[T]) set(obj any, exists bool) error {
	value, ok := obj.(T)
	if exists && !ok {
		return fmt.Errorf("a %T for a %T", obj, value)
	}
	o.mu.Lock()
	o.value, o.there = value, exists
	o.mu.Unlock()
	o.changed()
	return nil
}

// Add implements cache.ReflectorStore, as do the other methods.
func (o *object[T]) Add(obj any) error { return o.set(obj, true) }

// Update replaces the object.
func (o *object[T]) Update(obj any) error { return o.set(obj, true) }

// Delete removes the object.
func (o *object[T]) Delete(any) error { return o.set(nil, false) }

// Replace stores the object of list, or none if list is empty.
func (o *object[T]) Replace(list []any, _ string) error {
	o.mu.Lock()
	o.listed = true
	o.mu.Unlock()
	if len(list) == 0 {
		return o.set(nil, false)
	}
	return o.set(list[0], true)
}

// Resync does nothing.
func (o *object[T]) Resync() error { return nil }
