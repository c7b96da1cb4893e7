// Package weights gives pods the weights of their cgroups: under contention, the proxy
// shares its processor time among them as the kernel shares the processors among the pods.
package weights

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/underlane/underlane/pkg/cgroup"
	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/state"
)

const (
	// refresh is how often the weights are read again. Kubernetes changes them in place
	// when a pod is resized.
	refresh = 10 * time.Second
	// retry is how often the cgroup of a new pod is looked for: a pod is in the state before
	// the kubelet makes its cgroup. A pod whose cgroup is not found for retryFor, such as a
	// static pod, is looked for at each refresh.
	retry    = time.Second
	retryFor = 30 * time.Second
)

// State is what the node knows of its pods (state.Store).
type State interface {
	View() *state.View
	// Watch returns a channel that receives when there is another View.
	Watch() (changes <-chan struct{}, cancel func())
}

// Shares is what the weights are for (l7proxy.Proxy).
type Shares interface {
	SetPodWeight(uid string, weight int)
	RetainPods(keep func(uid string) bool)
}

// Follower follows the weights of the cgroups of this node's pods.
type Follower struct {
	// Host returns the hierarchies of cgroups of the host: see cgroup.Host.
	Host   func() ([]cgroup.Tree, error)
	State  State
	Shares Shares
	Log    *slog.Logger

	tree      cgroup.Tree // that has the cgroups of pods
	refreshed time.Time
	looked    time.Time // for cgroups
	pods      map[string]*pod
	warned    bool
}

// pod is a pod of this node, by UID.
type pod struct {
	since  time.Time
	cgroup string // directory in the Follower's tree; "": not found yet
	weight int    // 0: not read yet
}

// Run follows the weights until ctx is done. A pod whose weight cannot be read has the
// default.
func (f *Follower) Run(ctx context.Context) error {
	changes, cancel := f.State.Watch()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		case <-timer.C:
		}
		if view := f.State.View(); view.Synced() {
			f.follow(view)
		}
		wait := refresh
		for _, p := range f.pods {
			if p.cgroup == "" && time.Since(p.since) < retryFor {
				wait = retry
			}
		}
		timer.Reset(wait)
	}
}

// follow looks for the cgroups of new pods, and reads all weights if it is time to.
func (f *Follower) follow(view *state.View) {
	now := time.Now()
	all := now.Sub(f.refreshed) >= refresh
	pods, look := make(map[string]*pod), false
	for _, w := range view.Local() {
		if !w.Meshed {
			continue
		}
		p := f.pods[w.UID]
		if p == nil {
			p = &pod{since: now}
			look = true
		}
		look = look || p.cgroup == "" && (all || now.Sub(p.since) < retryFor && now.Sub(f.looked) >= retry)
		pods[w.UID] = p
	}
	f.pods = pods
	if look {
		f.looked = now
		f.find()
	}
	for uid, p := range pods {
		if p.cgroup != "" && (all || p.weight == 0) {
			f.read(uid, p)
		}
	}
	if all {
		f.refreshed = now
		f.Shares.RetainPods(func(uid string) bool { return pods[uid] != nil })
	}
}

// find looks for the cgroups of the pods, in the hierarchy that shares the processors.
func (f *Follower) find() {
	trees, err := f.Host()
	tree, ok := cgroup.Sharing(trees)
	if err == nil && !ok {
		err = errors.New("neither cgroup v2 nor v1 has the controller cpu here")
	}
	if err != nil {
		f.warn(err)
		return
	}
	f.tree = tree
	cgroups := cgroup.Pods([]cgroup.Tree{tree})
	for uid, p := range f.pods {
		p.cgroup = ""
		if dirs := cgroups[uid]; !dirs.Empty() {
			p.cgroup = dirs[0][0]
		}
	}
}

// warn logs once that pods have no weights.
func (f *Follower) warn(err error) {
	if !f.warned {
		f.warned = true
		f.Log.Warn("pods have equal shares of the agent's processor time, because their cgroups are not found", "cause", err)
	}
}

// read reads a pod's weight.
func (f *Follower) read(uid string, p *pod) {
	weight, ok := f.tree.Weight(p.cgroup)
	if !ok { // the cgroup is gone, and there may be another one
		p.cgroup, weight = "", fairshare.DefaultWeight
	}
	if p.weight != weight {
		p.weight = weight
		f.Shares.SetPodWeight(uid, weight)
	}
}
