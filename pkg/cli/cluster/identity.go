package cluster

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/cli/certtext"
)

// IdentityCommand is `underlane identity`: the certificates that pods present.
func IdentityCommand(flags *Flags) *cobra.Command {
	var namespace, selector string
	cmd := &cobra.Command{
		Use:   "identity [POD]...",
		Short: "Show the certificate that a pod presents to others in the mesh",
		Long: `Show the certificate that a pod presents to others in the mesh. The agent of the
pod's node keeps it, in memory: one for each service account of the node's pods.`,
		Example: "  underlane identity -n shop web-5d4f\n  underlane identity -n shop -l app=web",
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 0) == (selector == "") {
				return errors.New("which pods? name them, or select them by --selector")
			}
			pods, err := flags.pods(cmd.Context(), namespace, selector, args)
			if err != nil {
				return err
			}
			failed := false
			for i := range pods {
				fmt.Fprintf(cmd.OutOrStdout(), "\nPOD %s (%d of %d)\n\n", pods[i].Name, i+1, len(pods))
				cert, err := flags.tapAPI().certificate(cmd.Context(), &pods[i])
				if err == nil {
					err = certtext.Write(cmd.OutOrStdout(), cert)
				}
				if err != nil {
					failed = true
					fmt.Fprintln(cmd.ErrOrStderr(), err)
				}
			}
			if failed {
				return cli.ErrSilent
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "namespace of the pods (default that of the kubeconfig's context)")
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "label selector of pods, instead of names")
	return cmd
}

// pods returns the named pods, or those that selector selects. It fails if there is
// none.
func (c *Flags) pods(ctx context.Context, namespace, selector string, names []string) ([]corev1.Pod, error) {
	namespace, err := c.Namespace(namespace)
	if err != nil {
		return nil, err
	}
	client, err := c.Client()
	if err != nil {
		return nil, err
	}
	if selector != "" {
		list, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err == nil && len(list.Items) == 0 {
			err = fmt.Errorf("no pod of namespace %s has %s", namespace, selector)
		}
		if err != nil {
			return nil, err
		}
		return list.Items, nil
	}
	var pods []corev1.Pod
	for _, name := range names {
		pod, err := client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		pods = append(pods, *pod)
	}
	return pods, nil
}

// certificate asks the agent of the pod's node for the pod's certificate.
func (a *tapAPI) certificate(ctx context.Context, pod *corev1.Pod) (*x509.Certificate, error) {
	if pod.Spec.NodeName == "" {
		return nil, fmt.Errorf("pod %s is not on a node yet", pod.Name)
	}
	data, err := a.get(ctx, tapv1alpha1.NodePath(pod.Spec.NodeName, "status"), nil)
	if err != nil {
		return nil, err
	}
	st := new(agentv1.StatusResponse)
	if err := read(data, "", st); err != nil {
		return nil, err
	}
	return certificateOf(st, pod.Namespace, pod.Name)
}

// certificateOf finds the certificate in st that the agent presents for a pod.
func certificateOf(st *agentv1.StatusResponse, namespace, name string) (*x509.Certificate, error) {
	for _, p := range st.GetPods() {
		if p.GetNamespace() != namespace || p.GetName() != name {
			continue
		}
		for _, c := range st.GetCertificates() {
			if c.GetIdentity() == p.GetIdentity() && len(c.GetChain()) > 0 {
				return x509.ParseCertificate(c.GetChain()[0])
			}
		}
		return nil, fmt.Errorf("pod %s is in the mesh (%s) and has no certificate for %s yet", name, p.GetState(), p.GetIdentity())
	}
	return nil, fmt.Errorf("pod %s is not in the mesh: the agent of %s does not carry it: is it labelled %s?", name, st.GetNode(), labelHint)
}

const labelHint = "underlane.io/mesh=enabled"
