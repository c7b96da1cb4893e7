package installation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// pollEvery is the interval at which Poll calls step.
const pollEvery = 500 * time.Millisecond

// Poll calls step until it reports done, fails, or limit has passed. It prints
// step's line when the line changes. When the limit has passed, the error has the
// last line.
func Poll(ctx context.Context, limit time.Duration, progress io.Writer, step func(context.Context) (line string, done bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	last := ""
	for {
		line, done, err := step(ctx)
		if ctx.Err() == nil && err != nil {
			return err
		}
		if err == nil && line != "" && line != last {
			fmt.Fprintln(progress, line)
			last = line
		}
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%s: not done after %s", last, limit)
			}
			return ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// AwaitRollout waits until the controller and the agents run in the version that
// their objects now describe.
func AwaitRollout(ctx context.Context, client kubernetes.Interface, namespace string, limit time.Duration, progress io.Writer) error {
	start := time.Now()
	err := Poll(ctx, limit, progress, func(ctx context.Context) (string, bool, error) {
		c, err := ControllerRollout(ctx, client, namespace)
		if err != nil {
			return "", false, err
		}
		a, err := AgentRollout(ctx, client, namespace)
		if err != nil {
			return "", false, err
		}
		return fmt.Sprintf("%s; %s", c, a), c.Done() && a.Done(), nil
	})
	if err != nil {
		if problems := PodProblems(context.WithoutCancel(ctx), client, namespace); problems != "" {
			err = fmt.Errorf("%w\n%s", err, problems)
		}
		return fmt.Errorf("wait for Underlane: %w", err)
	}
	fmt.Fprintf(progress, "Underlane runs, after %s. Next: kubectl label namespace NAME underlane.io/mesh=enabled; underlane check --proxy\n", time.Since(start).Round(100*time.Millisecond))
	return nil
}

// Rollout is the progress of a workload's rollout. Ready and Desired count pods.
type Rollout struct {
	name           string
	Ready, Desired int32
	seen           bool // the status describes the newest version of the object
}

// Done reports whether all pods run in the version that the workload now describes.
func (r Rollout) Done() bool { return r.seen && r.Ready >= r.Desired }

func (r Rollout) String() string {
	return fmt.Sprintf("%s: %d of %d ready", r.name, r.Ready, r.Desired)
}

// ControllerRollout reads the rollout of the controller's Deployment.
func ControllerRollout(ctx context.Context, client kubernetes.Interface, namespace string) (Rollout, error) {
	d, err := client.AppsV1().Deployments(namespace).Get(ctx, Controller, metav1.GetOptions{})
	if err != nil {
		return Rollout{}, err
	}
	desired := int32(1)
	if d.Spec.Replicas != nil {
		desired = *d.Spec.Replicas
	}
	ready := min(d.Status.UpdatedReplicas, d.Status.ReadyReplicas, d.Status.AvailableReplicas)
	return Rollout{"controller", ready, desired, d.Status.ObservedGeneration >= d.Generation}, nil
}

// AgentRollout reads the rollout of the agents' DaemonSet.
func AgentRollout(ctx context.Context, client kubernetes.Interface, namespace string) (Rollout, error) {
	d, err := client.AppsV1().DaemonSets(namespace).Get(ctx, Agent, metav1.GetOptions{})
	if err != nil {
		return Rollout{}, err
	}
	s := d.Status
	// The status of a new DaemonSet is empty until its controller has processed the
	// object. This must not count as "0 of 0 ready".
	return Rollout{"agents", min(s.UpdatedNumberScheduled, s.NumberReady), s.DesiredNumberScheduled, s.ObservedGeneration >= d.Generation}, nil
}

// PodProblems returns why Underlane's own pods do not run, one line each.
func PodProblems(ctx context.Context, client kubernetes.Interface, namespace string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: Selector})
	if err != nil {
		return ""
	}
	var lines []string
	for i := range pods.Items {
		if why := NotReady(&pods.Items[i]); why != "" {
			lines = append(lines, pods.Items[i].Name+": "+why)
		}
	}
	return strings.Join(lines, "\n")
}

// NotReady returns why a pod does not serve, "" if it does.
func NotReady(p *corev1.Pod) string {
	for _, c := range p.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil {
			return strings.TrimRight(w.Reason+": "+w.Message, ": ")
		}
		if t := c.State.Terminated; t != nil {
			return strings.TrimRight(fmt.Sprintf("ended with %d: %s", t.ExitCode, t.Message), ": ")
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Status != corev1.ConditionTrue && (c.Type == corev1.PodScheduled || c.Type == corev1.PodReady) {
			return strings.TrimRight(c.Reason+": "+c.Message, ": ")
		}
	}
	return ""
}

// NodeReady reports whether the node's condition Ready is true.
func NodeReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
