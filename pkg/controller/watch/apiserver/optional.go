package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/kind"
)

// discoverEvery is the interval at which the API server is asked for its custom
// resources, because their CRDs can be installed and removed. Discovery needs no
// permission; watching the CRDs would need one.
const discoverEvery = 15 * time.Second

// optional is a resource that is watched while the API server has it.
type optional struct {
	followed
	version string             // the version that is watched
	cancel  context.CancelFunc // nil while the API server does not have the resource
}

// optionals are the optional resources, whether they are watched or not.
type optionals struct {
	mu    sync.Mutex
	known bool // the API server has answered which of them it has
	doubt bool // it has not answered that of a group with policies of a CNI
	all   []*optional
	other []string // resources of policies that are not known, which are noted
}

// synced reports whether all resources that the API server has were listed once.
func (o *optionals) synced() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.all {
		if r.cancel != nil && !r.Of().MetadataOnly && !r.store.Synced() {
			return false
		}
	}
	return o.known
}

// foreignUnknown reports whether there may be policies of a CNI that were not listed yet.
func (o *optionals) foreignUnknown() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.all {
		if r.cancel != nil && r.Of().MetadataOnly && !r.store.Synced() {
			return true
		}
	}
	return o.doubt
}

// served has the names of the resources that the API server has.
type served struct {
	names map[schema.GroupVersion][]string
	doubt []string // groups about which it has not answered
}

// version returns the preferred version among those in which the API server has r,
// "" if there is none.
func (s *served) version(r *custom.Resource) string {
	for _, gv := range r.GroupVersions() {
		if slices.Contains(s.names[gv], r.Name) {
			return gv.Version
		}
	}
	if custom.IsForeign(r.Group) { // the metadata is alike in all versions
		for gv, names := range s.names {
			if gv.Group == r.Group && slices.Contains(names, r.Name) {
				return gv.Version
			}
		}
	}
	return ""
}

// strange returns the versions in which the API server has r, if it has it in none that is known
// here: its objects are not read then.
func (s *served) strange(r *custom.Resource) (versions []string) {
	if s.version(r) != "" || custom.IsForeign(r.Group) {
		return nil
	}
	for gv, names := range s.names {
		if gv.Group == r.Group && slices.Contains(names, r.Name) {
			versions = append(versions, gv.Version)
		}
	}
	slices.Sort(versions)
	return versions
}

// others returns the resources of groups of policies that are not known here, as NAME.GROUP.
func (s *served) others() (out []string) {
	for gv, names := range s.names {
		if !slices.Contains(custom.PolicyGroups, gv.Group) {
			continue
		}
		for _, name := range names {
			known := slices.ContainsFunc(custom.Resources, func(r custom.Resource) bool { return r.Group == gv.Group && r.Name == name })
			if !known && !strings.Contains(name, "/") { // not a subresource
				out = append(out, name+"."+gv.Group)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// followOptional watches those optional resources that the API server has, until
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

// discover requests the list of groups, and then the resources of the groups that
// the mesh reads.
func (c *Cluster) discover(ctx context.Context) (*served, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var groups metav1.APIGroupList
	if err := c.get(ctx, "/apis", &groups); err != nil {
		return nil, err
	}
	out := &served{names: map[schema.GroupVersion][]string{}}
	for _, group := range groups.Groups {
		for _, v := range group.Versions {
			gv := schema.GroupVersion{Group: group.Name, Version: v.Version}
			foreign := custom.IsForeign(group.Name)
			strange := c.custom.Of(gv) == nil
			if strange && !foreign && !custom.IsGroup(group.Name) {
				continue
			}
			var list metav1.APIResourceList
			switch err := c.get(ctx, "/apis/"+gv.String(), &list); {
			case err != nil && strange && !foreign:
				c.log.Debug("resources of a version are not known", "version", gv.String(), "err", err)
			case err != nil && foreign: // an API server behind this one is away: the rest must go on
				c.log.Debug("resources of a group are not known", "group", gv.String(), "err", err)
				out.doubt = append(out.doubt, group.Name)
			case err != nil:
				return nil, err
			}
			for _, r := range list.APIResources {
				out.names[gv] = append(out.names[gv], r.Name)
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

// adapt starts to watch the resources that are new, and forgets those that are
// gone. A resource whose served version has changed is both.
func (c *Cluster) adapt(ctx context.Context, g *sync.WaitGroup, served *served) {
	c.optional.mu.Lock()
	doubt := len(served.doubt) > 0
	first := !c.optional.known || c.optional.doubt != doubt
	c.optional.known, c.optional.doubt = true, doubt
	var gone, fresh []*optional
	strange := map[string][]string{} // versions of those that are not read
	for _, r := range c.optional.all {
		version := served.version(&r.Of().Resource)
		if version == "" && slices.Contains(served.doubt, r.Of().Group) {
			continue
		}
		if r.cancel == nil && version == "" {
			strange[r.Of().Qualified()] = served.strange(&r.Of().Resource)
		}
		if r.cancel != nil && version != r.version {
			gone = append(gone, r)
		}
		if version != "" && version != r.version {
			fresh = append(fresh, r)
		}
	}
	other := c.optional.other
	c.optional.other = served.others()
	for _, resource := range other {
		if !slices.Contains(c.optional.other, resource) {
			strange[resource] = nil
		}
	}
	other = c.optional.other
	c.optional.mu.Unlock()
	for _, resource := range other {
		c.note(resource, errors.New("this controller does not know the kind: its objects have no effect"))
	}
	for resource, versions := range strange {
		var err error
		if len(versions) > 0 {
			err = fmt.Errorf("the API server has it only in versions that this controller does not know (%s): its objects have no effect", strings.Join(versions, ", "))
		}
		c.note(resource, err)
	}
	// The lock must not be held here: forget changes the store, and the store's
	// changed function takes the lock.
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

// follow starts to watch r. The caller holds the lock.
func (c *Cluster) follow(ctx context.Context, g *sync.WaitGroup, r *optional, version string) {
	name := r.Of().Qualified()
	watching, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	gv := schema.GroupVersion{Group: r.Of().Group, Version: version}
	g.Go(func() {
		defer close(done)
		lw := &noted{
			ListWatch: c.listWatch(r.Of(), gv),
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
	c.note(r.Of().Qualified(), nil)
	c.log.Info("custom resource is gone with its CustomResourceDefinition", "resource", r.Of().Name)
}

// listWatch lists and watches a resource in a version.
func (c *Cluster) listWatch(of *kind.Resource, gv schema.GroupVersion) *cache.ListWatch {
	if !of.MetadataOnly {
		return cache.NewListWatchFromClient(c.custom.Of(gv), of.Name, metav1.NamespaceAll, fields.Everything())
	}
	client := c.custom.Metadata(gv.WithResource(of.Name))
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := client.List(ctx, o)
			if err != nil {
				return nil, err // and no object of a nil pointer
			}
			return list, nil
		},
		WatchFuncWithContext: client.Watch,
	}
}
