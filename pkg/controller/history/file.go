package history

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/figures"
)

// The file is a head of fixed size and a gob of saved, which nothing reads before the
// checksum in the head is right.
const (
	magic    = "underlane-hist"
	version  = 1
	headSize = len(magic) + 2 + 8 + 4 // magic, version, length and CRC-32C of the rest
)

// maxFile bounds a file that is read, as a multiple of the budget: the budget may have
// been larger when it was written.
const maxFile = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// saved is a Store in a file. Its fields are a format: they may be added to.
type saved struct {
	Reasons         []string
	Edges           []savedEdge
	Steps           []savedStep
	Complete        int64
	Trimmed         int64
	Folded, Dropped uint64
}

type savedEdge struct {
	Number int
	Key    figures.Key
	Node   string
	Last   int64
}

type savedStep struct {
	Start, Length, Covered int64
	Asked                  int
	Waiting, Missing       []string
	Blocks                 [][]byte
	Owners                 []string // of the blocks; absent: all belong to all nodes together
	Classes                []class  // of the blocks; absent: anyClass
}

// saved returns what is to be saved.
func (s *Store) saved() *saved {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &saved{Reasons: s.reasons.names, Complete: s.complete, Trimmed: s.trimmed, Folded: s.folded, Dropped: s.dropped}
	for id, e := range s.edges {
		if e != nil {
			out.Edges = append(out.Edges, savedEdge{id, e.key.key(), e.node, e.last.Load()})
		}
	}
	for _, st := range s.steps {
		saved := savedStep{Start: st.start, Length: st.length, Covered: st.covered, Asked: st.asked, Waiting: st.waiting, Missing: st.missing}
		for _, b := range st.blocks {
			saved.Blocks, saved.Owners, saved.Classes = append(saved.Blocks, b.data), append(saved.Owners, b.owner), append(saved.Classes, b.class)
		}
		out.Steps = append(out.Steps, saved)
	}
	return out
}

// Save writes the Store to a file. A reader sees the old file or the new one.
func (s *Store) Save(path string) error {
	var body bytes.Buffer
	body.Write(make([]byte, headSize))
	if err := gob.NewEncoder(&body).Encode(s.saved()); err != nil {
		return fmt.Errorf("encode the history: %w", err)
	}
	data := body.Bytes()
	head := binary.BigEndian.AppendUint16([]byte(magic), version)
	head = binary.BigEndian.AppendUint64(head, uint64(len(data)-headSize))
	head = binary.BigEndian.AppendUint32(head, crc32.Checksum(data[headSize:], castagnoli))
	copy(data, head)
	if err := replace(path, data); err != nil {
		return fmt.Errorf("write the history: %w (is the volume full, or not writable?)", err)
	}
	return nil
}

// staleAfter is the age at which a temporary file is what a writer left that crashed.
const staleAfter = 10 * time.Minute

// replace writes a file atomically. Several replicas may do so at the same time: two that
// lead for a moment, or one that ends and the one after it. Each has a temporary file of its
// own, so that the file is always the whole one of one of them, the last. The directory is
// synced too, because a crash of the machine may otherwise undo the rename.
func replace(path string, data []byte) error {
	dir, base := filepath.Split(path)
	dir = cmp.Or(dir, ".")
	sweep(dir, base+newSuffix)
	f, err := os.CreateTemp(dir, base+newSuffix+"*") // its mode is 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	// The file is in place. Not every file system can sync a directory.
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}

// newSuffix marks temporary files.
const newSuffix = ".new"

// sweep removes the temporary files of writers that have crashed: each is as large as the
// history, and would fill the volume.
func sweep(dir, prefix string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // the write tells
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > staleAfter {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// errForeign is the error of a file that this version cannot use.
var errForeign = errors.New("it is broken, or of another version")

// Load reads a file that Save wrote into an empty Store. now is the present. Without a
// file the Store stays empty. The error of a file that cannot be used wraps errForeign.
func (s *Store) Load(path string, now time.Time) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the history: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(s.bytes)*maxFile+1<<20))
	if err != nil {
		return fmt.Errorf("read the history: %w", err)
	}
	if err := s.restore(data, now); err != nil {
		return fmt.Errorf("read the history %s: %w", path, err)
	}
	return nil
}

// restore fills an empty Store with the content of a file.
func (s *Store) restore(data []byte, now time.Time) error {
	if len(data) < headSize || string(data[:len(magic)]) != magic {
		return fmt.Errorf("%w: it does not begin as a history does", errForeign)
	}
	head, body := data[len(magic):headSize], data[headSize:]
	switch v := binary.BigEndian.Uint16(head); {
	case v != version:
		return fmt.Errorf("%w: it has version %d, want %d", errForeign, v, version)
	case binary.BigEndian.Uint64(head[2:]) != uint64(len(body)):
		return fmt.Errorf("%w: it has %d bytes, its head says %d", errForeign, len(body), binary.BigEndian.Uint64(head[2:]))
	case binary.BigEndian.Uint32(head[10:]) != crc32.Checksum(body, castagnoli):
		return fmt.Errorf("%w: its checksum is wrong", errForeign)
	}
	var in saved
	if err := gob.NewDecoder(bytes.NewReader(body)).Decode(&in); err != nil {
		return fmt.Errorf("%w: %w", errForeign, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.take(&in, minuteOf(now)); err != nil {
		s.clear()
		return fmt.Errorf("%w: %w", errForeign, err)
	}
	return nil
}

// take fills the Store. What is older than a Store keeps, or in the future, is left out.
func (s *Store) take(in *saved, now int64) error {
	s.reasons = newReasons(in.Reasons)
	for _, e := range in.Edges {
		if e.Number < len(s.edges) || e.Number > 4*s.maxEdges*maxFile {
			return fmt.Errorf("edge %d after %d", e.Number, len(s.edges)-1)
		}
		for len(s.edges) < e.Number {
			s.free = append(s.free, len(s.edges))
			s.edges = append(s.edges, nil)
		}
		k := workloads(e.Key)
		short, _ := s.names.intern(&k, true)
		own := newEdge(short, s.names.text(e.Node), e.Last)
		s.edges = append(s.edges, own)
		s.number[short] = e.Number
		s.own(own)
	}
	last := int64(0)
	for _, st := range in.Steps {
		if st.Length != 1 && (st.Length != perCoarse || st.Start%perCoarse != 0) || st.Start < last {
			return fmt.Errorf("a step of %d minutes at %d, after %d", st.Length, st.Start, last)
		}
		last = st.Start + st.Length
		if st.Start < now-keep || last > now {
			continue
		}
		own := &step{start: st.Start, length: st.Length, covered: st.Covered, asked: st.Asked, waiting: st.Waiting, missing: st.Missing}
		for i, data := range st.Blocks {
			b := block{data: data}
			if len(st.Owners) == len(st.Blocks) {
				b.owner = s.names.text(st.Owners[i])
			}
			if len(st.Classes) == len(st.Blocks) && st.Classes[i] < numClasses {
				b.class = st.Classes[i]
			}
			own.blocks = append(own.blocks, b)
		}
		s.steps = append(s.steps, own)
	}
	s.complete, s.trimmed, s.folded, s.dropped = min(in.Complete, now), in.Trimmed, in.Folded, in.Dropped
	s.count()
	s.forget()
	return nil
}
