package command

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/underlane/underlane/test/cluster/layout"
	"github.com/underlane/underlane/test/cluster/node"
	"github.com/underlane/underlane/test/lab/host"
)

// kubectl runs kubectl as the administrator in the control plane's network.
func (o *options) kubectl(c layout.Cluster, bin node.Binaries, stdin string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(bin.Kubernetes, "kubernetes"), append([]string{"kubectl", "--kubeconfig", c.Kubeconfig()}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, problems strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := host.InNetns(c.ControlPlaneNetns(), cmd.Start); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(problems.String()))
	}
	return out.String(), nil
}

func (o *options) apply(c layout.Cluster, bin node.Binaries, manifest string) error {
	_, err := o.kubectl(c, bin, manifest, "apply", "--server-side", "--force-conflicts", "-f", "-")
	return err
}

// nodeObjects returns the Node objects with the pod networks that the nodes were
// built with. No controller allocates pod networks.
func nodeObjects(c layout.Cluster) string {
	type object = map[string]any
	var items []object
	for _, n := range c.AllNodes() {
		items = append(items, object{
			"apiVersion": "v1", "kind": "Node",
			"metadata": object{"name": n.Name()},
			"spec":     object{"podCIDR": c.PodCIDRs(n)[0], "podCIDRs": c.PodCIDRs(n)},
		})
	}
	text, _ := json.Marshal(object{"apiVersion": "v1", "kind": "List", "items": items})
	return string(text)
}

// waitNodes waits until all nodes are Ready.
func (o *options) waitNodes(c layout.Cluster, bin node.Binaries) error {
	args := []string{"wait", "--for=condition=Ready", "--timeout=2m"}
	for _, n := range c.AllNodes() {
		args = append(args, "node/"+n.Name())
	}
	if _, err := o.kubectl(c, bin, "", args...); err != nil {
		return fmt.Errorf("nodes are not ready (see %s): %w", c.NodeFile(layout.Node{Index: 1}, "log"), err)
	}
	return nil
}

// replace replaces this process by a command in the control plane's network.
func replace(c layout.Cluster, argv, env []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return inControlPlane(c, func() error { return execve(path, argv, append(os.Environ(), env...)) })
}
