package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/underlane/underlane/internal/version"
)

// VersionCommand is `underlane version`.
func VersionCommand(f *ClusterFlags) *cobra.Command {
	var short, only bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program, the controller and the agents",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			print := func(name, value string) {
				if short {
					fmt.Fprintln(out, value)
					return
				}
				fmt.Fprintf(out, "%s version: %s\n", name, value)
			}
			print("Client", version.Version)
			if only {
				return nil
			}
			client, err := f.Client()
			if err != nil {
				return err
			}
			v, err := imageVersions(cmd.Context(), client, f.System)
			if err != nil {
				return err
			}
			print("Controller", v.controller())
			print("Agent", v.agent())
			return nil
		},
	}
	cmd.Flags().BoolVar(&short, "short", false, "print the version numbers only")
	cmd.Flags().BoolVar(&only, "client", false, "print the version of this program only")
	return cmd
}

// versions are the tags of the images that run, with the number of pods of each.
type versions struct {
	controllers, agents map[string]int
}

// imageVersions looks which images run.
func imageVersions(ctx context.Context, client kubernetes.Interface, namespace string) (versions, error) {
	v := versions{map[string]int{}, map[string]int{}}
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: partOfLabel + "=" + partOf})
	if err != nil {
		return v, fmt.Errorf("look for Underlane's pods: %w", err)
	}
	for i := range pods.Items {
		switch p := &pods.Items[i]; p.Labels[nameLabel] {
		case controllerName:
			v.controllers[imageTag(p)]++
		case agentName:
			v.agents[imageTag(p)]++
		}
	}
	return v, nil
}

func (v versions) controller() string { return countVersions(v.controllers) }
func (v versions) agent() string      { return countVersions(v.agents) }

// countVersions is one version, or each with the number of pods.
func countVersions(v map[string]int) string {
	switch len(v) {
	case 0:
		return "unavailable"
	case 1:
		for name := range v {
			return name
		}
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		parts = append(parts, fmt.Sprintf("%s (%d pods)", name, v[name]))
	}
	return strings.Join(parts, ", ")
}

// nameLabel tells controller and agents apart.
const nameLabel = "app.kubernetes.io/name"

// imageTag is the tag of the pod's image: registry:5000/name:TAG@digest.
func imageTag(p *corev1.Pod) string {
	if len(p.Spec.Containers) == 0 {
		return "unknown"
	}
	image, _, _ := strings.Cut(p.Spec.Containers[0].Image, "@")
	i := strings.LastIndexByte(image, ':')
	if i <= strings.LastIndexByte(image, '/') {
		return "latest"
	}
	return image[i+1:]
}
