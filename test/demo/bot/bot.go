// Package bot generates the demo's load. It votes over HTTP at a bounded rate.
package bot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/underlane/underlane/test/demo/catalog"
	"github.com/underlane/underlane/test/demo/web"
)

const (
	doughnutShare = 0.15
	retryInterval = 500 * time.Millisecond
	logInterval   = 10 * time.Second
)

// Bot votes at Web, such as "http://web", Rate times per second.
type Bot struct {
	Web  string
	Rate float64

	transport http.RoundTripper // nil: a new one
	client    http.Client
	voted     int
	failed    int
}

// Run waits for the list of emoji, and then votes until ctx ends. A vote that fails
// is counted and logged, but is not an error.
func (b *Bot) Run(ctx context.Context) error {
	if b.Rate <= 0 || b.Rate > 1000 {
		return fmt.Errorf("rate %v votes a second is not in 0…1000", b.Rate)
	}
	if b.transport == nil {
		b.transport = &http.Transport{IdleConnTimeout: time.Minute}
	}
	b.client = http.Client{Transport: b.transport, Timeout: 5 * time.Second}
	defer b.client.CloseIdleConnections()
	choices, err := b.waitForList(ctx)
	if err != nil {
		return nil // ended before the list was available
	}
	watching := make(chan struct{})
	go func() { defer close(watching); b.watch(ctx) }()
	defer func() { <-watching }()
	slog.Info("voting", "web", b.Web, "rate", b.Rate, "choices", len(choices))
	pace := time.NewTicker(time.Duration(float64(time.Second) / b.Rate))
	defer pace.Stop()
	for logAt := time.Now().Add(logInterval); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-pace.C:
		}
		b.vote(ctx, choose(choices))
		if time.Now().After(logAt) {
			logAt = time.Now().Add(logInterval)
			slog.Info("votes", "good", b.voted, "failed", b.failed)
		}
	}
}

// waitForList asks until web answers. It fails only if ctx ends.
func (b *Bot) waitForList(ctx context.Context) ([]web.Choice, error) {
	for {
		var choices []web.Choice
		err := b.get(ctx, "/api/list", &choices)
		if err == nil && len(choices) == 0 {
			err = errors.New("the list is empty")
		}
		if err == nil {
			return choices, nil
		}
		slog.Warn("no list of emoji yet, trying again", "error", err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(retryInterval):
		}
	}
}

func (b *Bot) vote(ctx context.Context, shortcode string) {
	var answer struct{ Votes int64 }
	if err := b.get(ctx, "/api/vote?choice="+url.QueryEscape(shortcode), &answer); err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return // the end of the run interrupted it: not a fault of web
		}
		b.failed++
		slog.Debug("vote failed", "choice", shortcode, "error", err)
		return
	}
	b.voted++
}

// choose picks an emoji at random, more often the doughnut, whose vote fails.
func choose(choices []web.Choice) (shortcode string) {
	if rand.Float64() < doughnutShare {
		return catalog.Doughnut
	}
	return choices[rand.N(len(choices))].Shortcode
}

// get requests a path of web and decodes the JSON response. It reads the whole body,
// so that the connection can be reused.
func (b *Bot) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.Web+path, nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("get %s: read answer: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s: %.200s", path, resp.Status, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("get %s: decode answer: %w", path, err)
	}
	return nil
}
