// Package addon has the manifests of what runs in every cluster.
package addon

import _ "embed"

// DNS is the manifest of the cluster's DNS server.
//
//go:embed dns.yaml
var DNS string
