package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/cli/cluster/chart"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
	"github.com/underlane/underlane/pkg/mesh"
)

// UninstallCommand is `underlane uninstall`.
func UninstallCommand(f *Flags) *cobra.Command {
	var apply, force bool
	var output string
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Print the resources to delete, or delete them and clean the nodes",
		Long: `Print the resources to delete, or delete them and clean the nodes.

With --apply everything goes: the agents, the programs that they pinned in each
node's kernel (a pod per node removes them), the annotation underlane.io/status,
the controller, and the namespace. Deleting the printed resources leaves the
pinned programs, which let all traffic pass without an agent, until the node's
next boot; so does a node that is not ready.`,
		Example: `  underlane uninstall --apply
  underlane uninstall | kubectl delete -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, errw := cmd.Context(), cmd.ErrOrStderr()
			client, err := f.Client()
			if err != nil {
				return err
			}
			objects, err := f.objects()
			if err != nil {
				return err
			}
			all, err := objects.installed(ctx, f.System)
			if err != nil {
				return err
			}
			if len(all) == 0 {
				return fmt.Errorf("no Underlane in namespace %s: --underlane-namespace says where else", f.System)
			}
			if !force {
				if err := nobodyMeshed(ctx, client); err != nil {
					return err
				}
			}
			if apply {
				u := &uninstaller{client: client, objects: objects, namespace: f.System, limit: limit, progress: errw}
				return u.run(ctx, all)
			}
			fmt.Fprintln(errw, "deleting these leaves the programs pinned in the nodes' kernels, where without an agent they let all traffic pass; --apply removes them too")
			return write(cli.Raw(cmd.OutOrStdout()), all, output)
		},
	}
	p := cmd.Flags()
	p.BoolVar(&apply, "apply", false, "delete, and clean the nodes, instead of printing")
	p.BoolVar(&force, "force", false, "also while pods or namespaces are labelled: their traffic goes on outside the mesh")
	p.StringVarP(&output, "output", "o", "yaml", "yaml or json")
	p.DurationVar(&limit, "wait", 5*time.Minute, "with --apply: how long each step may take")
	return cmd
}

// shownMeshed limits how many of the pods that block the uninstall are named.
const shownMeshed = 10

// nobodyMeshed returns an error if a pod or a namespace is labelled.
func nobodyMeshed(ctx context.Context, client kubernetes.Interface) error {
	enabled := metav1.ListOptions{LabelSelector: mesh.LabelMesh + "=" + mesh.LabelEnabled}
	namespaces, err := client.CoreV1().Namespaces().List(ctx, enabled)
	if err != nil {
		return fmt.Errorf("look for labelled namespaces: %w", err)
	}
	pods, err := client.CoreV1().Pods("").List(ctx, enabled)
	if err != nil {
		return fmt.Errorf("look for labelled pods: %w", err)
	}
	text, n := "", 0
	add := func(what, where string) {
		if n++; n <= shownMeshed {
			text += fmt.Sprintf("\n* %s %s", what, where)
		}
	}
	for _, o := range namespaces.Items {
		add("namespace", o.Name)
	}
	for _, o := range pods.Items {
		add("pod", o.Namespace+"/"+o.Name)
	}
	if n == 0 {
		return nil
	}
	if n > shownMeshed {
		text += fmt.Sprintf("\n* and %d more", n-shownMeshed)
	}
	return fmt.Errorf("these are in the mesh; take the label %s off (`underlane unmesh`, or kubectl label … %[1]s-), or give --force:%s", mesh.LabelMesh, text)
}

// uninstaller deletes an installation.
type uninstaller struct {
	client    kubernetes.Interface
	objects   *objectClient
	namespace string
	limit     time.Duration
	progress  io.Writer
}

// run deletes in this order: the API service while the controller still serves it
// (an API service without a server blocks the deletion of every namespace), the
// agents before their kernel objects, and the controller before the annotations
// that it writes.
func (u *uninstaller) run(ctx context.Context, all []chart.Object) error {
	template, err := u.agentTemplate(ctx)
	if err != nil {
		return err
	}
	for _, kind := range []string{"APIService", "DaemonSet", "Deployment"} {
		for i := range all {
			if all[i].GetKind() == kind {
				if err := u.delete(ctx, &all[i]); err != nil {
					return err
				}
			}
		}
	}
	if err := u.podsGone(ctx, installation.Agent, installation.Controller); err != nil {
		return err
	}
	var failed error
	if template == nil {
		fmt.Fprintln(u.progress, "the DaemonSet of the agents and the record of the installation are gone: the nodes cannot be cleaned; `agent cleanup` does it on a node")
	} else {
		// A node that cannot be cleaned must not block the rest.
		failed = u.cleanNodes(ctx, template)
	}
	failed = errors.Join(failed, u.forgetStatus(ctx))
	for i := range all {
		if err := u.delete(ctx, &all[i]); err != nil {
			return errors.Join(failed, err)
		}
	}
	return errors.Join(failed, u.gone(ctx, all))
}
