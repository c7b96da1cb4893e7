package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/test/lab/fabric"
	"github.com/underlane/underlane/test/lab/layout"
	"github.com/underlane/underlane/test/lab/manifest"
)

// sync applies the state to the machine: manifests for the controller, ClusterIPs
// at all nodes, names in all pods. It writes only what has changed since the last
// call.
func (c *cluster) sync() error {
	c.syncMu.Lock()
	defer c.syncMu.Unlock()
	c.mu.Lock()
	if c.ending {
		c.mu.Unlock()
		return nil
	}
	objects := c.snapshot()
	c.mu.Unlock()
	return errors.Join(c.syncNames(objects), c.syncServices(objects), c.syncManifests(objects))
}

// snapshot copies all objects that the controller sees. mu is held.
func (c *cluster) snapshot() []metav1.Object {
	var out []metav1.Object
	for _, obj := range c.objects {
		out = append(out, clone(obj))
	}
	for _, p := range c.sortedPods() {
		out = append(out, p.obj.DeepCopy())
	}
	for n := 1; n <= c.opts.Nodes; n++ {
		out = append(out, nodeObject(n))
	}
	return out
}

func (c *cluster) syncServices(objects []metav1.Object) error {
	rules := fabric.Rules(vips(objects))
	if c.done["rules"] == rules {
		return nil
	}
	var err error
	for n := 1; n <= c.opts.Nodes; n++ {
		err = errors.Join(err, fabric.Program(c.layout, layout.NodeName(n), rules))
	}
	if err == nil {
		c.done["rules"] = rules
	}
	return err
}

func (c *cluster) syncManifests(objects []metav1.Object) error {
	wanted := map[string]bool{}
	var errs []error
	wrote := false
	for _, obj := range objects {
		text, err := manifest.Encode(obj)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		name := fmt.Sprintf("%s_%s_%s.yaml", manifest.Kind(obj), obj.GetNamespace(), obj.GetName())
		wanted[name] = true
		if c.done[name] == string(text) {
			continue
		}
		if err := c.publish(name, text); err != nil {
			errs = append(errs, err)
			continue
		}
		wrote = true
		c.done[name] = string(text)
	}
	for name := range c.done {
		if strings.HasSuffix(name, ".yaml") && !wanted[name] {
			delete(c.done, name)
			wrote = true
			errs = append(errs, os.Remove(filepath.Join(c.layout.Manifests(), name)))
		}
	}
	if wrote {
		// The controller reads again after each write. It then reports a later time
		// than this, which ends the wait in awaitController.
		c.written = time.Now()
		errs = append(errs, os.WriteFile(filepath.Join(c.layout.Manifests(), ".written"), []byte(c.written.String()), 0o644))
	}
	return errors.Join(errs...)
}

// publish puts a file into the controller's directory atomically: it writes the
// file elsewhere and renames it.
func (c *cluster) publish(name string, text []byte) error {
	staged := filepath.Join(c.staging(), name)
	if err := os.WriteFile(staged, text, 0o644); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return os.Rename(staged, filepath.Join(c.layout.Manifests(), name))
}

func (c *cluster) syncNames(objects []metav1.Object) error {
	var errs []error
	for _, obj := range objects {
		snap, ok := obj.(*corev1.Pod)
		if !ok || snap.DeletionTimestamp != nil {
			continue
		}
		text := hostsFile(snap, objects)
		c.mu.Lock()
		p := c.pods[snap.Namespace+"/"+snap.Name]
		stale := p != nil && p.obj.UID == snap.UID && p.hosts != text && p.pause != nil
		if stale {
			p.hosts = text
		}
		c.mu.Unlock()
		if stale {
			errs = append(errs, overwrite(filepath.Join(c.layout.PodDir(snap.Namespace, snap.Name), "hosts"), text))
		}
	}
	return errors.Join(errs...)
}

// overwrite changes a file in place, because a bind mount refers to the file and
// not to its name. The file is never empty, not even for a moment.
func overwrite(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write names: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		return fmt.Errorf("write names: %w", err)
	}
	return f.Truncate(int64(len(text)))
}
