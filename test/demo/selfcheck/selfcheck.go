// Package selfcheck looks at a running demo as a person would, through the
// lab's commands alone, and says whether the mesh does what it promises. What
// is seen is gathered by commands of limited time and judged by pure functions.
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

// commandLimit bounds every command on top of the time that it is given.
const commandLimit = 30 * time.Second

// Times are how long to look.
type Times struct {
	Votes, Tap, Top, Capture time.Duration
}

// DefaultTimes are enough for every edge of the demo to be used many times.
var DefaultTimes = Times{Votes: 3 * time.Second, Tap: 6 * time.Second, Top: 10 * time.Second, Capture: 3 * time.Second}

// Config says where things are.
type Config struct {
	Lab     Lab
	Capture string // path of the command that captures: this one
	Uplink  string // a node's interface to the other nodes
	Times   Times
	Log     io.Writer
}

// Result is one line of the table.
type Result struct {
	Check string
	Saw   string // what was seen, or what was missed where Err is set
	Err   error
}

// Run makes every check, whatever the others say.
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

// demo is the demo that is looked at.
type demo struct {
	Config
	pods []Pod
}

// limited runs a command that is given a time, and bounds it.
func (l Lab) limited(ctx context.Context, long time.Duration, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, long+commandLimit, errors.New("the command took too long"))
	defer cancel()
	return l.Run(ctx, args...)
}

// exec runs a subcommand of emojivote in a pod.
func (d demo) exec(ctx context.Context, namespace, pod string, subcommand ...string) ([]byte, error) {
	return d.Lab.limited(ctx, 0, append([]string{"exec", "-n", namespace, pod, "--", "emojivote"}, subcommand...)...)
}

// errNotSeen says that something did not happen while it was looked at, which a
// longer look may show: the machine may be busy.
var errNotSeen = errors.New("it shows nothing")

// looks is how often something is looked at, each time for twice as long.
const looks = 3

func longer(long time.Duration, look func(time.Duration) (string, error)) (saw string, err error) {
	for range looks {
		if saw, err = look(long); !errors.Is(err, errNotSeen) {
			break
		}
		long *= 2
	}
	return saw, err
}

func (d demo) identitiesRight(ctx context.Context) (string, error) {
	return longer(d.Times.Tap, func(long time.Duration) (string, error) { return d.identitiesIn(ctx, long) })
}

// identitiesIn taps both nodes while the page is visited, for only that makes the
// front end call the banner service.
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

// visitFor gets the page from the other node, over and over.
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
