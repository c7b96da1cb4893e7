package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/underlane/underlane/pkg/controller/custom"
)

// discoverEvery is how often the API server is asked which custom resources it
// has: their CRDs come and go. Discovery needs no permission; to watch the CRDs
// would.
const discoverEvery = 15 * time.Second

// optional is a resource that is watched while the API server has it.
type optional struct {
	followed
	version string             // that is watched
	cancel  context.CancelFunc // nil while it is not there
}

// optionals are the optional resources, watched or not.
type optionals struct {
	mu    sync.Mutex
	known bool // the API server has said which it has
	all   []*optional
}

// synced reports whether all resources that the API server has were listed once.
func (o *optionals) synced() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.all {
		if r.cancel != nil && !r.store.Synced() {
			return false
		}
	}
	return o.known
}

// served are the names of the resources that the API server has.
type served map[schema.GroupVersion][]string

// version is the preferred one of those that r is served in, "" if it is not.
func (s served) version(r *custom.Resource) string {
	for _, gv := range r.GroupVersions() {
		if slices.Contains(s[gv], r.Name) {
			return gv.Version
		}
	}
	return ""
}

// followOptional watches the optional resources that the API server has until
// ctx ends.
func (c *Cluster) followOptional(ctx context.Context) {
	var g sync.WaitGroup
	defer g.Wait()
	for {
		served, err := c.discover(ctx)
		if ctx.Err() != nil {
			return
		}
		c.note("apis", err)
		if err == nil {
			c.adapt(ctx, &g, served)
		}
		wait := c.discoverEvery
		if !c.optional.synced() {
			wait = min(wait, time.Second)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// discover asks for the groups, and then for the resources of those that matter.
func (c *Cluster) discover(ctx context.Context) (served, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var groups metav1.APIGroupList
	if err := c.get(ctx, "/apis", &groups); err != nil {
		return nil, err
	}
	out := served{}
	for _, group := range groups.Groups {
		for _, v := range group.Versions {
			gv := schema.GroupVersion{Group: group.Name, Version: v.Version}
			if c.custom.Of(gv) == nil {
				continue
			}
			var list metav1.APIResourceList
			if err := c.get(ctx, "/apis/"+gv.String(), &list); err != nil {
				return nil, err
			}
			for _, r := range list.APIResources {
				out[gv] = append(out[gv], r.Name)
			}
		}
	}
	return out, nil
}

func (c *Cluster) get(ctx context.Context, path string, to any) error {
	text, err := c.client.Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(ctx)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, to); err != nil {
		return fmt.Errorf("discovery of %s: %w", path, err)
	}
	return nil
}

// adapt begins to watch the resources that are new, and forgets those that are
// gone. One that is served in another version than before is both.
func (c *Cluster) adapt(ctx context.Context, g *sync.WaitGroup, served served) {
	c.optional.mu.Lock()
	first := !c.optional.known
	c.optional.known = true
	var gone, fresh []*optional
	for _, r := range c.optional.all {
		version := served.version(&r.Of().Resource)
		if r.cancel != nil && version != r.version {
			gone = append(gone, r)
		}
		if version != "" && version != r.version {
			fresh = append(fresh, r)
		}
	}
	c.optional.mu.Unlock()
	// Not under the lock: forget changes the store, whose changed takes it.
	for _, r := range gone {
		c.forget(r)
	}
	c.optional.mu.Lock()
	for _, r := range fresh {
		c.follow(ctx, g, r, served.version(&r.Of().Resource))
	}
	c.optional.mu.Unlock()
	if first {
		c.changed()
	}
}

// follow begins to watch r. The lock is held.
func (c *Cluster) follow(ctx context.Context, g *sync.WaitGroup, r *optional, version string) {
	name := r.Of().Name
	watching, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	client := c.custom.Of(schema.GroupVersion{Group: r.Of().Group, Version: version})
	g.Go(func() {
		defer close(done)
		lw := &noted{
			ListWatch: cache.NewListWatchFromClient(client, name, metav1.NamespaceAll, fields.Everything()),
			note: func(err error) {
				if watching.Err() == nil {
					c.note(name, err)
				}
			},
		}
		Reflect(watching, name, lw, r.Object(), stripping{r.store})
	})
	r.version, r.cancel = version, func() { cancel(); <-done }
	c.log.Info("custom resource is followed", "resource", name, "group", r.Of().Group, "version", version)
}

func (c *Cluster) forget(r *optional) {
	r.cancel()
	c.optional.mu.Lock()
	r.cancel, r.version = nil, ""
	c.optional.mu.Unlock()
	_ = r.store.Replace(nil, "") // fails only for objects of another kind
	c.note(r.Of().Name, nil)
	c.log.Info("custom resource is gone with its CustomResourceDefinition", "resource", r.Of().Name)
}
