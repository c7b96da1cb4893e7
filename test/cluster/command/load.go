package command

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/cluster/image"
	"github.com/underlane/underlane/test/cluster/layout"
	"github.com/underlane/underlane/test/cluster/node"
)

func loadCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "load IMAGE.tar...",
		Short: "Import images into every node that is up",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := o.existing()
			if err != nil {
				return err
			}
			return load(c, args)
		},
	}
}

// load imports images into all nodes that are up, except those that a node already
// has. The nodes do it concurrently.
func load(c layout.Cluster, tars []string) error {
	results := make(chan error)
	for _, n := range c.AllNodes() {
		go func() { results <- loadNode(c, n, tars) }()
	}
	var err error
	for range c.AllNodes() {
		err = errors.Join(err, <-results)
	}
	return err
}

func loadNode(c layout.Cluster, n layout.Node, tars []string) error {
	if pid, err := node.Pid(c, n); err != nil || pid == 0 {
		return err // a node that is down gets it when it starts
	}
	argv, err := inNode(c, n.Name(), []string{node.Ctr, "-n", "k8s.io", "images", "import", "--local", "-"})
	if err != nil {
		return err
	}
	for _, tar := range tars {
		digest, err := image.Digest(tar)
		if err != nil {
			return err
		}
		// The mark is on the node's disk, so that it lasts as long as the image.
		mark := c.NodeFile(n, "loaded", filepath.Base(tar))
		if old, err := os.ReadFile(mark); err == nil && digest != "" && string(old) == digest {
			continue
		}
		if err := importImage(argv, tar); err != nil {
			return fmt.Errorf("import %s into %s: %w", tar, n.Name(), err)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(mark), 0o755), os.WriteFile(mark, []byte(digest), 0o644)); err != nil {
			return err
		}
	}
	return nil
}

func importImage(argv []string, tar string) error {
	f, err := os.Open(tar)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = f
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
