package quota

// Open counts the descriptor of a connection to an endpoint, until the caller calls closed,
// once. That may be after Leave: others may use the connection. The first Open takes the
// descriptor that Enter has reserved. The error is ErrDescriptors. A nil Usage counts
// nothing.
func (u *Usage) Open() (closed func(), err error) {
	if u == nil {
		return func() {}, nil
	}
	p := u.pods
	p.mu.Lock()
	defer p.mu.Unlock()
	if !u.reserved.CompareAndSwap(true, false) {
		if !p.takeDescriptors(u.source, 1) {
			p.countRefusal(u.pod.key, ErrDescriptors)
			return nil, ErrDescriptors
		}
		u.pod.descriptors++
	}
	pod, source := u.pod, u.source
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.giveDescriptors(source, 1)
		pod.descriptors--
		p.forget(pod)
	}, nil
}

// Settle gives back the descriptor that Enter has reserved, if there is still one: the
// session shares a connection that is open.
func (u *Usage) Settle() {
	if u == nil || !u.reserved.Load() {
		return
	}
	u.pods.mu.Lock()
	defer u.pods.mu.Unlock()
	if u.reserved.CompareAndSwap(true, false) {
		u.pods.giveDescriptors(u.source, 1)
		u.pod.descriptors--
	}
}

// takeDescriptors counts n descriptors to a source. It returns false if the source may not
// have as many. mu is held.
func (p *Pods) takeDescriptors(from Source, n int) bool {
	if !p.descriptors.take(from, n, p.Descriptors) {
		return false
	}
	if !from.Proved() && !p.strangers.take(from, n, p.Descriptors/2) {
		p.descriptors.give(from, n)
		return false
	}
	return true
}

// giveDescriptors undoes takeDescriptors.
func (p *Pods) giveDescriptors(from Source, n int) {
	p.descriptors.give(from, n)
	if !from.Proved() {
		p.strangers.give(from, n)
	}
}
