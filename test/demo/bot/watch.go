package bot

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"
)

// watch keeps the leaderboard's event stream open, like a page in a browser, and
// reopens it when it ends. It returns when ctx ends.
func (b *Bot) watch(ctx context.Context) {
	client := http.Client{Transport: b.client.Transport} // no timeout: the stream is endless
	for {
		err := follow(ctx, &client, b.Web+"/api/events")
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryInterval):
			slog.Warn("leaderboard's stream ended, opening it again", "error", err)
		}
	}
}

// follow reads and discards a response until its end.
func follow(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("watch: %s", resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
