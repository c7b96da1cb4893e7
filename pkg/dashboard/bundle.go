package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
)

//go:generate sh ../../web/build.sh

// dist is what web/ is built to: `make dashboard` makes it, `make verify` compares it.
//
//go:embed dist
var dist embed.FS

// types of the bundle's files. The tables of the machine (mime.TypeByExtension) may
// say anything.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".json": "application/json",
	".txt": "text/plain; charset=utf-8",
}

// site serves the bundle. The path of a view is not that of a file: it gets index.html,
// whose script reads the address.
type site struct {
	files map[string]*asset // by path, "/assets/app.js"
	index *asset
}

// bundle reads the embedded files.
func bundle() (*site, error) {
	s := &site{files: map[string]*asset{}}
	err := fs.WalkDir(dist, "dist", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := dist.ReadFile(name)
		if err != nil {
			return err
		}
		kind := types[path.Ext(name)]
		if kind == "" {
			return fmt.Errorf("%s has no media type here", name)
		}
		s.files[strings.TrimPrefix(name, "dist")] = newAsset(kind, data)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the embedded dashboard: %w", err)
	}
	if s.index = s.files["/index.html"]; s.index == nil {
		return nil, fmt.Errorf("the embedded dashboard has no index.html: build it with `make dashboard`")
	}
	return s, nil
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	file := s.files[r.URL.Path]
	switch {
	case file != nil:
	case strings.HasPrefix(r.URL.Path, "/assets/"), strings.HasPrefix(r.URL.Path, "/api/"), strings.HasPrefix(r.URL.Path, "/."):
		refuse(w, http.StatusNotFound, "NotFound", "there is no "+r.URL.Path)
		return
	default:
		file = s.index
	}
	file.ServeHTTP(w, r)
}

// asset is a file. It is compressed once, when it is first asked for: compressed files
// in the repository would differ between versions of the compressor.
type asset struct {
	kind, tag string
	data      []byte
	packed    func() []byte
}

func newAsset(kind string, data []byte) *asset {
	sum := sha256.Sum256(data)
	return &asset{
		kind: kind, data: data, tag: `"` + hex.EncodeToString(sum[:12]) + `"`,
		packed: sync.OnceValue(func() []byte { return pack(data) }),
	}
}

func pack(data []byte) []byte {
	var out bytes.Buffer
	// The level is valid, and a Buffer takes everything: there is no error.
	z, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
	_, _ = z.Write(data)
	_ = z.Close()
	return out.Bytes()
}

func (a *asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "no-cache") // ask each time; the tag says that nothing changed
	h.Set("ETag", a.tag)
	h.Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("If-None-Match"), a.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	data := a.data
	if acceptsGzip(r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		data = a.packed()
	}
	h.Set("Content-Length", fmt.Sprint(len(data)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(data)
	}
}

// acceptsGzip reads an Accept-Encoding as far as browsers and curl write it: gzip in
// the list, without a weight of zero.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, params, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err == nil && coding == "gzip" {
			return strings.Trim(params["q"], "0.") != "" || params["q"] == ""
		}
	}
	return false
}
