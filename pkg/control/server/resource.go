package server

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strings"

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
	Name, Version string
	rank          int
	wire          []byte       // an element of Delta.resources, with its tag and length
	later         *pb.Resource // what wire is made of, where it was not yet
	// Of a workload:
	node  string
	addrs []netip.Addr
}

// version is that of a resource, as a stream keeps it: without a pointer, of which the garbage
// collector would find hundreds for each stream.
type version [16]byte

// versionOf returns text, as long as those of newResource are, or a hash of a longer one.
func versionOf(text string) (v version) {
	if len(text) > len(v) {
		sum := sha256.Sum256([]byte(text))
		text = string(sum[:len(v)])
	}
	copy(v[:], text)
	return v
}

// newResource encodes r. Its version is a hash of its content, unless it has one.
func newResource(r *pb.Resource) *resource {
	out := &resource{Name: r.Name, Version: r.Version, rank: rank(r)}
	version := r.Version
	r.Version = ""
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
	if err != nil {
		// This happens only for a string that is not UTF-8. All strings come from
		// Kubernetes objects, which were JSON or YAML. Agents leave out what has no content.
		b, _ = proto.Marshal(&pb.Resource{Name: strings.ToValidUTF8(r.Name, "?")})
	}
	if version == "" {
		sum := sha256.Sum256(b)
		out.Version = base64.RawURLEncoding.EncodeToString(sum[:12])
	}
	r.Version = out.Version
	size := len(b) + protowire.SizeTag(fieldResourceVersion) + protowire.SizeBytes(len(out.Version))
	out.wire = make([]byte, 0, protowire.SizeTag(fieldResources)+protowire.SizeBytes(size))
	out.wire = protowire.AppendTag(out.wire, fieldResources, protowire.BytesType)
	out.wire = protowire.AppendVarint(out.wire, uint64(size))
	out.wire = append(out.wire, b...)
	out.wire = protowire.AppendTag(out.wire, fieldResourceVersion, protowire.BytesType)
	out.wire = protowire.AppendString(out.wire, out.Version)
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
	return &resource{Name: r.Name, Version: r.Version, later: r}
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
