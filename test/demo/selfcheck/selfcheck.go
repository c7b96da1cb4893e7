// Package selfcheck checks a running demo with the lab's commands only, as a person
// would, and reports whether the mesh does what it promises. Commands with a time
// limit collect the observations, and pure functions judge them.
package selfcheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
)

// Namespace is where the demo runs.
const Namespace = "emojivote"

// commandLimit is added to the time that a command is meant to run. Together they
// bound the command.
const commandLimit = 30 * time.Second

// Times says how long each check observes.
type Times struct {
	Votes, Tap, Top, Capture time.Duration
}

// DefaultTimes are long enough for the demo to use each of its edges many times.
var DefaultTimes = Times{Votes: 3 * time.Second, Tap: 6 * time.Second, Top: 10 * time.Second, Capture: 3 * time.Second}

// Config says how to reach the demo.
type Config struct {
	Lab     Lab
	Capture string // path of the command that captures, which is this one
	Uplink  string // a node's interface to the other nodes
	Times   Times
	Log     io.Writer
}

// Result is one line of the table.
type Result struct {
	Check string
	Saw   string // what was observed
	Err   error
}

// Run makes all checks, even if some of them fail.
func Run(ctx context.Context, cfg Config) ([]Result, error) {
	out, err := cfg.Lab.limited(ctx, 0, "pods")
	if err != nil {
		return nil, err
	}
	pods, err := ParsePods(string(out))
	if err != nil {
		return nil, err
	}
	d := demo{Config: cfg, pods: pods}
	checks := []struct {
		name string
		run  func(context.Context) (string, error)
	}{
		{"requests flow", d.requestsFlow},
		{"a server that speaks first works at once", d.bannerAtOnce},
		{"identities are right", d.identitiesRight},
		{"the wire is encrypted", d.wireEncrypted},
		{"top finds the failing vote", d.failingVoteFound},
	}
	var results []Result
	for _, c := range checks {
		fmt.Fprintf(cfg.Log, "checking: %s…\n", c.name)
		saw, err := c.run(ctx)
		if ctx.Err() != nil {
			return results, fmt.Errorf("stopped: %w", context.Cause(ctx))
		}
		results = append(results, Result{c.name, saw, err})
	}
	return results, nil
}

// demo is the demo that is checked.
type demo struct {
	Config
	pods []Pod
}

// limited runs a command that is meant to run for long, and bounds its time.
func (l Lab) limited(ctx context.Context, long time.Duration, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, long+commandLimit, errors.New("the command took too long"))
	defer cancel()
	return l.Run(ctx, args...)
}

// exec runs a subcommand of emojivote in a pod.
func (d demo) exec(ctx context.Context, namespace, pod string, subcommand ...string) ([]byte, error) {
	return d.Lab.limited(ctx, 0, append([]string{"exec", "-n", namespace, pod, "--", "emojivote"}, subcommand...)...)
}

// errNotSeen says that something did not happen during an observation. A longer
// observation may see it, because the machine may be busy.
var errNotSeen = errors.New("it shows nothing")

// observations is the number of observations, each twice as long as the one before.
const observations = 3

func longer(long time.Duration, observe func(time.Duration) (string, error)) (saw string, err error) {
	for range observations {
		if saw, err = observe(long); !errors.Is(err, errNotSeen) {
			break
		}
		long *= 2
	}
	return saw, err
}

func (d demo) identitiesRight(ctx context.Context) (string, error) {
	return longer(d.Times.Tap, func(long time.Duration) (string, error) { return d.identitiesIn(ctx, long) })
}

// identitiesIn taps both nodes while it visits the page. Only a visit makes the front
// end call the banner service.
func (d demo) identitiesIn(ctx context.Context, long time.Duration) (string, error) {
	both := make([][]TapEvent, 2)
	group, ctx := errgroup.WithContext(ctx)
	for i, node := range []string{"node-1", "node-2"} {
		group.Go(func() error {
			out, err := d.Lab.For(ctx, long, "agent", node, "--", "tap", "--max-rps", "0", "-o", "json")
			if err != nil {
				return err
			}
			both[i], err = ParseTap(out)
			return err
		})
	}
	group.Go(func() error { return d.visitFor(ctx, long) })
	if err := group.Wait(); err != nil {
		return "", err
	}
	return CheckIdentities(append(both[0], both[1]...))
}

// visitFor repeatedly requests the page from the other node.
func (d demo) visitFor(ctx context.Context, long time.Duration) error {
	for end := time.Now().Add(long); time.Now().Before(end); {
		if _, err := d.exec(ctx, Namespace, "deploy/vote-bot", "get", "http://web/"); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	return nil
}

func (d demo) failingVoteFound(ctx context.Context) (string, error) {
	return longer(d.Times.Top, func(long time.Duration) (string, error) { return d.failingVoteIn(ctx, long) })
}

func (d demo) failingVoteIn(ctx context.Context, long time.Duration) (string, error) {
	out, err := d.Lab.limited(ctx, long, "agent", "node-1", "--", "top", "--once", "--duration", long.String(), "-o", "json")
	if err != nil {
		return "", err
	}
	rows, err := ParseTop(out)
	if err != nil {
		return "", err
	}
	return CheckFailingVote(rows)
}
