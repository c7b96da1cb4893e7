package watch

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/underlane/underlane/pkg/controller/translate"
)

const (
	debounce = 20 * time.Millisecond // several system calls of one writer count as one change
	poll     = 2 * time.Second       // for file systems without notifications
)

// Problem is a manifest, or a part of one, that cannot be used, or a resource that
// cannot be watched. The last valid objects stay in use.
type Problem struct {
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"` // from 1; 0 stands for the whole file
	Resource string `json:"resource,omitempty"`
	Reason   string `json:"reason"`
}

func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + p.Resource + ": " + p.Reason
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Reason)
}

// Manifests watches a directory of Kubernetes manifests: *.yaml, *.yml and *.json,
// including subdirectories except hidden ones.
type Manifests struct {
	dir     string
	log     *slog.Logger
	changes chan struct{}
	files   map[string]*file // used only by scan

	mu       sync.Mutex
	objects  *translate.Objects
	given    *translate.Objects // those that Next has given out; nil: none
	asOf     time.Time
	origins  map[string]string
	problems []Problem
	failures uint64
	// unreadable says which directory could not be listed and why; "" when all
	// could.
	unreadable string
}

// NewManifests reads dir, which must exist. Invalid manifests in it become
// Problems, not an error.
func NewManifests(dir string, log *slog.Logger) (*Manifests, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("manifest directory: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("manifest directory: %s is a file", dir)
	}
	m := &Manifests{
		dir: dir, log: log, changes: make(chan struct{}, 1), files: map[string]*file{},
		objects: &translate.Objects{}, origins: map[string]string{},
	}
	m.scan(nil)
	return m, nil
}

// Objects returns the current objects of the manifests. The value is not changed
// later.
func (m *Manifests) Objects() *translate.Objects {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.objects
}

// Next returns what has changed since the last call. The first has everything.
func (m *Manifests) Next() translate.Batch {
	m.mu.Lock()
	from, to := m.given, m.objects
	m.given = to
	m.mu.Unlock()
	return translate.Diff(from, to)
}

// Kind returns the kind of its problems: manifests.
func (m *Manifests) Kind() string { return "manifest" }

// AsOf returns a time. Objects has the content that the directory had then.
func (m *Manifests) AsOf() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asOf
}

// Changes returns a channel that receives after Objects or Problems changed, or a
// file was written. Several changes may give one signal.
func (m *Manifests) Changes() <-chan struct{} { return m.changes }

// Problems returns the current problems, sorted by file and line.
func (m *Manifests) Problems() []Problem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.problems)
}

// Failures returns the number of problems that have appeared.
func (m *Manifests) Failures() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failures
}

// Origin returns the file and line of an object, "FILE:LINE", or "" when there is
// no such object.
func (m *Manifests) Origin(kind, namespace, name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.origins[originKey(kind, namespace, name)]
}

// Run watches the directory until ctx ends, and then returns ctx's error. If the
// kernel cannot notify it finds changes only by polling.
func (m *Manifests) Run(ctx context.Context) error {
	var events <-chan fsnotify.Event
	var lost <-chan error
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		m.log.Warn("manifests are polled only", "dir", m.dir, "every", poll, "err", err)
	} else {
		defer watcher.Close()
		events, lost = watcher.Events, watcher.Errors
	}
	m.watchDirs(watcher)
	m.scan(nil) // changes since NewManifests
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	var settled <-chan time.Time
	dirty := map[string]bool{}
	for {
		select {
		case e := <-events:
			if len(dirty) == 0 {
				settled = time.After(debounce)
			}
			dirty[e.Name] = true
			continue
		case err := <-lost:
			m.log.Warn("manifest notifications were lost: looking at every file", "err", err)
		case <-settled:
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		m.watchDirs(watcher)
		m.scan(dirty)
		clear(dirty)
		settled = nil
	}
}

// watchDirs adds new directories to w. w removes deleted ones by itself.
func (m *Manifests) watchDirs(w *fsnotify.Watcher) {
	if w == nil {
		return
	}
	_ = walk(m.dir, func(path string, info os.FileInfo) {
		if info.IsDir() {
			if err := w.Add(path); err != nil {
				m.log.Debug("directory is polled only", "dir", path, "err", err)
			}
		}
	})
}

// scan updates files from the directory, and publishes the result when something
// changed. It reads the files in dirty even if their size and time have not
// changed.
func (m *Manifests) scan(dirty map[string]bool) {
	start := time.Now()
	seen := map[string]bool{}
	changed := len(dirty) > 0 // a client may wait for AsOf to advance
	err := walk(m.dir, func(path string, info os.FileInfo) {
		if info.IsDir() || !isManifest(path) {
			return
		}
		seen[path] = true
		f := m.files[path]
		if f == nil {
			f = &file{path: path}
			m.files[path] = f
		}
		if f.refresh(info, dirty[path]) {
			changed = true
		}
	})
	if err == nil {
		before := len(m.files)
		maps.DeleteFunc(m.files, func(path string, _ *file) bool { return !seen[path] })
		changed = changed || before != len(m.files)
	}
	m.publish(start, changed, err)
}

func (m *Manifests) publish(asOf time.Time, changed bool, walkErr error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asOf = asOf
	unreadable := ""
	if walkErr != nil {
		unreadable = walkErr.Error()
	}
	if !changed && unreadable == m.unreadable {
		return
	}
	objects, origins, problems := merge(m.files)
	if walkErr != nil {
		problems = append(problems, Problem{File: m.dir, Reason: unreadable})
	}
	m.report(problems)
	m.objects, m.origins, m.problems, m.unreadable = objects, origins, problems, unreadable
	select {
	case m.changes <- struct{}{}:
	default:
	}
}

// report logs each problem when it appears and when it is resolved.
func (m *Manifests) report(problems []Problem) {
	for _, p := range problems {
		if !slices.Contains(m.problems, p) {
			m.failures++
			m.log.Error("broken manifest: its last good objects stay in use", "file", p.File, "line", p.Line, "reason", p.Reason)
		}
	}
	mended := map[string]bool{}
	for _, p := range m.problems {
		if !slices.ContainsFunc(problems, func(q Problem) bool { return q.File == p.File }) && !mended[p.File] {
			mended[p.File] = true
			m.log.Info("manifest is good again, or gone", "file", p.File)
		}
	}
}
