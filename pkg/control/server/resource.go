package server

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/mesh"
)

// Numbers of fields in api/control/v1.
const (
	fieldNonce           = 1 // of a Delta
	fieldDeltaVersion    = 2
	fieldResources       = 3
	fieldRemoved         = 4
	fieldInitialSyncDone = 5
	fieldAnswerWithin    = 376

	fieldResourceVersion = 2 // of a Resource
)

// resource is a pb.Resource as it is sent. It is encoded once, for all agents that get it, and
// the decoded form is not kept. It is immutable.
type resource struct {
	Name    string
	version version
	rank    int
	wire    []byte       // an element of Delta.resources, with its tag and length
	later   *pb.Resource // what wire is made of, where it was not yet
	// Of a workload:
	node  string
	addrs []netip.Addr
}

// version is that of a resource, without a pointer: of most it is the first bytes of a hash of
// the content, which are written in base64.
type version [12]byte

var versionText = base64.RawURLEncoding.Strict()

// versionOf returns the version with this text. Of one that is not as those of newResource are
// it is a hash.
func versionOf(text string) (v version) {
	if len(text) == versionText.EncodedLen(len(v)) {
		if _, err := versionText.Decode(v[:], []byte(text)); err == nil {
			return v
		}
	}
	sum := sha256.Sum256([]byte(text))
	return version(sum[:len(v)])
}

// scratches are for what is encoded before its length is known. As garbage they would be as large
// as what stays, and leave as much room of that size when they are gone, which nothing else fills.
var scratches = sync.Pool{New: func() any { return new([]byte) }}

const mostScratch = 64 << 10

// newResource encodes r. Its version is a hash of its content, unless it has one.
func newResource(r *pb.Resource) *resource {
	out := &resource{Name: r.Name, rank: rank(r)}
	text := r.Version
	r.Version = ""
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend((*scratch)[:0], r)
	if err != nil {
		// This happens only for a string that is not UTF-8. All strings come from
		// Kubernetes objects, which were JSON or YAML. Agents leave out what has no content.
		b, _ = proto.Marshal(&pb.Resource{Name: strings.ToValidUTF8(r.Name, "?")})
	}
	if cap(b) <= mostScratch {
		*scratch = b
	}
	if text == "" {
		sum := sha256.Sum256(b)
		out.version = version(sum[:len(out.version)])
		text = versionText.EncodeToString(out.version[:])
	} else {
		out.version = versionOf(text)
	}
	r.Version = text
	size := len(b) + protowire.SizeTag(fieldResourceVersion) + protowire.SizeBytes(len(text))
	out.wire = make([]byte, 0, protowire.SizeTag(fieldResources)+protowire.SizeBytes(size))
	out.wire = protowire.AppendTag(out.wire, fieldResources, protowire.BytesType)
	out.wire = protowire.AppendVarint(out.wire, uint64(size))
	out.wire = append(out.wire, b...)
	out.wire = protowire.AppendTag(out.wire, fieldResourceVersion, protowire.BytesType)
	out.wire = protowire.AppendString(out.wire, text)
	return out
}

func newWorkload(w *mesh.Workload) *resource {
	r := newResource(codec.EncodeWorkload(w))
	r.node, r.addrs = w.Node, w.Addrs
	return r
}

// newAddress is the answer about an address. It is not encoded, because most agents that are
// to have it have it.
func newAddress(addr netip.Addr, node bool) *resource {
	r := codec.EncodeAddress(addr, node)
	return &resource{Name: r.Name, version: versionOf(r.Version), later: r}
}

// whole returns r with wire.
func (r *resource) whole() *resource {
	if r.wire == nil {
		return newResource(r.later)
	}
	return r
}

// inOrder orders resources as diff says.
func inOrder(a, b *resource) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.Name, b.Name))
}

// Ranks.
const (
	rankWorkload = 1
	rankService  = 2
)

func rank(r *pb.Resource) int {
	switch r.GetContent().(type) {
	case *pb.Resource_Anchors, *pb.Resource_Ranges, *pb.Resource_Authz, *pb.Resource_EgressNetwork:
		return 0
	case *pb.Resource_Workload:
		return rankWorkload
	case *pb.Resource_Service:
		return rankService
	case *pb.Resource_Route:
		return 3
	}
	return 4
}
