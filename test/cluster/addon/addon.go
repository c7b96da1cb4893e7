// Package addon holds what runs in the cluster from the start.
package addon

import _ "embed"

// DNS is the manifest of the cluster's DNS server.
//
//go:embed dns.yaml
var DNS string
