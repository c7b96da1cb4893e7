package server

import (
	"sync"
	"unsafe"
)

// nameID is the number of a resource's name, as long as a stream has such a resource. Thousands
// of streams have hundreds of resources each: numbers, unlike strings, cost the garbage
// collector nothing.
type nameID uint32

// numbers gives names their numbers. Each stream that has a resource is a user of its name. A
// number without users is that of another name later.
type numbers struct {
	mu   sync.Mutex
	of   map[string]nameID
	all  []numbered // by number
	free []nameID
}

type numbered struct {
	name  string
	users uint32
}

func newNumbers() *numbers { return &numbers{of: map[string]nameID{}} }

// use returns the number of a name, which has a user more.
func (n *numbers) use(name string) nameID {
	n.mu.Lock()
	defer n.mu.Unlock()
	if id, has := n.of[name]; has {
		n.all[id].users++
		return id
	}
	id := nameID(len(n.all))
	if last := len(n.free) - 1; last >= 0 {
		id, n.free = n.free[last], n.free[:last]
		n.all[id] = numbered{name, 1}
	} else {
		n.all = append(n.all, numbered{name, 1})
	}
	n.of[name] = id
	return id
}

// release ends what use has begun.
func (n *numbers) release(id nameID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all[id].users--; n.all[id].users > 0 {
		return
	}
	delete(n.of, n.all[id].name)
	n.all[id] = numbered{}
	n.free = append(n.free, id)
}

// find returns the number of a name, false if it has none: no stream has the resource.
func (n *numbers) find(name string) (nameID, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id, has := n.of[name]
	return id, has
}

// name returns the name that has a number.
func (n *numbers) name(id nameID) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.all[id].name
}

// share has the name kept as this string, which is there anyhow.
func (n *numbers) share(id nameID, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if unsafe.StringData(n.all[id].name) == unsafe.StringData(name) {
		return
	}
	delete(n.of, name) // an assignment alone may keep the string that is the key
	n.of[name], n.all[id].name = id, name
}
