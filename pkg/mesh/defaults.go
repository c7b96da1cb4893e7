package mesh

// Defaults that several programs must agree on.
const (
	DefaultTrustDomain   = "cluster.local"         // of identities
	DefaultClusterDomain = "cluster.local"         // of the cluster's DNS
	DefaultPinRoot       = "/sys/fs/bpf/underlane" // directory of the pinned eBPF maps and links
)
