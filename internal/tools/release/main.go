// Command release writes all files of a release, as they are to lie on a server:
//
//	install.sh                            the script that installs the command line
//	channels/stable.json                  what is the newest, and its signature
//	charts/index.yaml                     the Helm repository
//	v0.2.0/underlane-v0.2.0-linux-amd64   the command line, for each system
//	v0.2.0/agent-v0.2.0.oci.tar           images for all processors, also controller
//	v0.2.0/underlane-0.2.0.tgz            the chart
//	v0.2.0/underlane-v0.2.0.yaml          what it renders to with its default values
//	v0.2.0/*.cdx.json                     the SBOM of each program
//	v0.2.0/SHA256SUMS                     of all these, and its signature
//
// The same source, options and Go give the same bytes. It uploads nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	o := options{Progress: os.Stderr}
	flag.StringVar(&o.Repo, "repo", ".", "source tree")
	flag.StringVar(&o.Out, "out", "dist", "directory to write; what is in it is removed")
	flag.StringVar(&o.Version, "version", "", "v0.2.0, or v0.3.0-edge.4")
	flag.StringVar(&o.Channel, "channel", "", "stable or edge")
	flag.StringVar(&o.KeyFile, "key", "", "file of the Ed25519 private key (openssl genpkey -algorithm ed25519)")
	flag.StringVar(&o.PublicKeyFile, "public-key", "", "instead of -key: its public key (openssl pkey -pubout), to make the same files without their signatures")
	flag.StringVar(&o.BaseURL, "base-url", exampleURL, "where the files will be")
	flag.StringVar(&o.Platforms, "platforms", "", "comma-separated list of linux/amd64 and so on, to make only these")
	flag.StringVar(&o.Previous, "previous", "", "directory or copy of the server with the releases before, which channels and charts/index.yaml are to name as well")
	flag.StringVar(&o.PreviousKeyFile, "previous-public-key", "", "public key that has signed the channels in -previous (default that of this release)")
	flag.StringVar(&o.Revision, "revision", "", "commit (default that of the repository, which must have no changes)")
	flag.StringVar(&o.Date, "date", "", "time of the commit in RFC 3339 (default the same)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}
