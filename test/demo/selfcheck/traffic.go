package selfcheck

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/underlane/underlane/test/demo/banner"
	"github.com/underlane/underlane/test/demo/catalog"
	"github.com/underlane/underlane/test/demo/selfcheck/wire"
	"github.com/underlane/underlane/test/demo/web"
)

const (
	bannerVisits = 5
	bannerLimit  = 50 * time.Millisecond
)

// requestsFlow requests the page once and the leaderboard twice.
func (d demo) requestsFlow(ctx context.Context) (string, error) {
	page, err := d.exec(ctx, Namespace, "deploy/vote-bot", "get", "http://web/")
	if err != nil {
		return "", err
	}
	text := html.UnescapeString(string(page))
	for _, want := range []string{catalog.Doughnut, banner.Greeting} {
		if !strings.Contains(text, want) {
			return "", fmt.Errorf("the page lacks %q", want)
		}
	}
	before, err := d.votes(ctx)
	if err != nil {
		return "", err
	}
	return longer(d.Times.Votes, func(long time.Duration) (string, error) {
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(long):
		}
		after, err := d.votes(ctx)
		if err != nil {
			return "", err
		}
		if after <= before {
			return "", fmt.Errorf("%d votes, and %v later %d: the bot's do not arrive: %w", before, long, after, errNotSeen)
		}
		return fmt.Sprintf("the page is there; votes rose from %d to %d in %v", before, after, long), nil
	})
}

// votes returns the sum of the votes on the leaderboard.
func (d demo) votes(ctx context.Context) (sum int64, err error) {
	out, err := d.exec(ctx, Namespace, "deploy/vote-bot", "get", "http://web/api/leaderboard")
	if err != nil {
		return 0, err
	}
	var standings []web.Standing
	if err := json.Unmarshal(out, &standings); err != nil {
		return 0, fmt.Errorf("read the leaderboard: %w in %.100q", err, out)
	}
	for _, s := range standings {
		sum += s.Votes
	}
	return sum, nil
}

// bannerAtOnce visits the banner service across the wire. Only the quickest visit
// counts: a wait for the client's first bytes would delay all visits, while a busy
// machine delays only some.
func (d demo) bannerAtOnce(ctx context.Context) (string, error) {
	var took []time.Duration
	for range bannerVisits {
		out, err := d.exec(ctx, Namespace, "deploy/web", "banner-client", "banner:3306")
		if err != nil {
			return "", err
		}
		var visit banner.Report
		if err := json.Unmarshal(out, &visit); err != nil {
			return "", fmt.Errorf("read the visit's report: %w in %.100q", err, out)
		}
		took = append(took, visit.Answered)
	}
	return CheckAtOnce(took)
}

// CheckAtOnce checks the times of visits to the banner service.
func CheckAtOnce(took []time.Duration) (saw string, err error) {
	quickest := slices.Min(took).Round(100 * time.Microsecond)
	if quickest >= bannerLimit {
		return "", fmt.Errorf("greeting and answer took %v, want less than %v (all: %v)", quickest, bannerLimit, took)
	}
	return fmt.Sprintf("greeting and answer of %s in %v", banner.ServerVersion, quickest), nil
}

func (d demo) wireEncrypted(ctx context.Context) (string, error) {
	return longer(d.Times.Capture, func(long time.Duration) (string, error) { return d.encryptedIn(ctx, long) })
}

// encryptedIn captures on the uplink of node-1. Meanwhile the bot votes, a meshed pod
// visits the page, and a pod outside the mesh makes a request in the clear.
func (d demo) encryptedIn(ctx context.Context, long time.Duration) (string, error) {
	limit, cancel := context.WithTimeout(ctx, long+commandLimit)
	defer cancel()
	group, limit := errgroup.WithContext(limit)
	output, input := io.Pipe()
	var capture bytes.Buffer
	group.Go(func() error {
		err := d.Lab.Pipe(limit, input, "node-exec", "node-1", "--",
			d.Capture, "capture", "--interface", d.Uplink, "--duration", long.String())
		input.CloseWithError(err)
		return err
	})
	group.Go(func() error {
		if err := wire.ReadHeader(output); err != nil { // the capture has started
			output.CloseWithError(err)
			return err
		}
		group.Go(func() error { return d.visitFor(limit, long/2) })
		group.Go(func() error {
			_, err := d.exec(limit, "default", "outsider", "get", "http://web."+Namespace+controlPath)
			return err
		})
		_, err := io.Copy(&capture, output)
		return err
	})
	if err := group.Wait(); err != nil {
		return "", err
	}
	return CheckEncrypted(&capture, d.pods)
}
