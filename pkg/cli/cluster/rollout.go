package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// pollEvery is how often something that is waited for is looked at.
const pollEvery = 500 * time.Millisecond

// poll calls step until it says done, fails, or limit is over; step's line is
// shown whenever it changes. When the time is over, the last line is the error.
func poll(ctx context.Context, limit time.Duration, progress io.Writer, step func(context.Context) (line string, done bool, err error)) error {
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

// awaitRollout waits until controller and agents run as they are now described.
func awaitRollout(ctx context.Context, client kubernetes.Interface, namespace string, limit time.Duration, progress io.Writer) error {
	start := time.Now()
	err := poll(ctx, limit, progress, func(ctx context.Context) (string, bool, error) {
		c, err := controllerRollout(ctx, client, namespace)
		if err != nil {
			return "", false, err
		}
		a, err := agentRollout(ctx, client, namespace)
		if err != nil {
			return "", false, err
		}
		return fmt.Sprintf("%s; %s", c, a), c.done() && a.done(), nil
	})
	if err != nil {
		if problems := podProblems(context.WithoutCancel(ctx), client, namespace); problems != "" {
			err = fmt.Errorf("%w\n%s", err, problems)
		}
		return fmt.Errorf("wait for Underlane: %w", err)
	}
	fmt.Fprintf(progress, "Underlane runs, after %s. Next: kubectl label namespace NAME underlane.io/mesh=enabled; underlane check --proxy\n", time.Since(start).Round(100*time.Millisecond))
	return nil
}

// rollout is how far a workload is.
type rollout struct {
	name           string
	ready, desired int32
	seen           bool // the status is about the newest description
}

func (r rollout) done() bool { return r.seen && r.ready >= r.desired }
func (r rollout) String() string {
	return fmt.Sprintf("%s: %d of %d ready", r.name, r.ready, r.desired)
}

func controllerRollout(ctx context.Context, client kubernetes.Interface, namespace string) (rollout, error) {
	d, err := client.AppsV1().Deployments(namespace).Get(ctx, controllerName, metav1.GetOptions{})
	if err != nil {
		return rollout{}, err
	}
	desired := int32(1)
	if d.Spec.Replicas != nil {
		desired = *d.Spec.Replicas
	}
	ready := min(d.Status.UpdatedReplicas, d.Status.ReadyReplicas, d.Status.AvailableReplicas)
	return rollout{"controller", ready, desired, d.Status.ObservedGeneration >= d.Generation}, nil
}

func agentRollout(ctx context.Context, client kubernetes.Interface, namespace string) (rollout, error) {
	d, err := client.AppsV1().DaemonSets(namespace).Get(ctx, agentName, metav1.GetOptions{})
	if err != nil {
		return rollout{}, err
	}
	s := d.Status
	// Not scheduled anywhere yet is not "0 of 0 and done": the status of a new
	// DaemonSet is empty until its controller has seen it.
	return rollout{"agents", min(s.UpdatedNumberScheduled, s.NumberReady), s.DesiredNumberScheduled, s.ObservedGeneration >= d.Generation}, nil
}

// podProblems says what keeps Underlane's own pods from running, a line each.
func podProblems(ctx context.Context, client kubernetes.Interface, namespace string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: partOfLabel + "=" + partOf})
	if err != nil {
		return ""
	}
	var lines []string
	for i := range pods.Items {
		if why := notReady(&pods.Items[i]); why != "" {
			lines = append(lines, pods.Items[i].Name+": "+why)
		}
	}
	return strings.Join(lines, "\n")
}

// notReady says why a pod does not serve, or nothing.
func notReady(p *corev1.Pod) string {
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
