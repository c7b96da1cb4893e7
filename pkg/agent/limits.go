package agent

// sharesLimits reports whether pods of this node have limits that they share with those of
// other nodes.
func (a *components) sharesLimits() bool {
	v := a.store.View()
	for _, w := range v.Local() {
		if !w.Limited {
			continue
		}
		for _, l := range v.Authz(w.UID).Limits() {
			if l.Nodes > 0 {
				return true
			}
		}
	}
	return false
}
