package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// Client talks to the supervisor of a lab.
type Client struct{ http http.Client }

// NewClient returns a client for the socket at path.
func NewClient(path string) *Client {
	return &Client{http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}}
}

// State returns the lab's state.
func (c *Client) State(ctx context.Context) (State, error) { return call[State](ctx, c, "state", nil) }

// Apply creates or updates the objects of files.
func (c *Client) Apply(ctx context.Context, files Files) (Warnings, error) {
	return call[Warnings](ctx, c, "apply", files)
}

// Delete deletes the objects of files.
func (c *Client) Delete(ctx context.Context, files Files) error {
	return c.do(ctx, "delete", files)
}

// DeleteTarget deletes one object.
func (c *Client) DeleteTarget(ctx context.Context, t Target) error {
	return c.do(ctx, "delete-target", t)
}

// Mark changes labels or annotations.
func (c *Client) Mark(ctx context.Context, m Mark) error { return c.do(ctx, "mark", m) }

// Scale changes the replicas of a deployment.
func (c *Client) Scale(ctx context.Context, s Scale) error { return c.do(ctx, "scale", s) }

// Signal signals the controller or an agent.
func (c *Client) Signal(ctx context.Context, s Signal) error { return c.do(ctx, "signal", s) }

// Start starts the controller or an agent, and waits until it is ready.
func (c *Client) Start(ctx context.Context, s Start) error { return c.do(ctx, "start", s) }

// Wait returns when everything is ready. Its error says what is not.
func (c *Client) Wait(ctx context.Context, w Wait) error { return c.do(ctx, "wait", w) }

// Shutdown brings the lab down. It may return before the lab is down.
func (c *Client) Shutdown(ctx context.Context) error { return c.do(ctx, "shutdown", nil) }

func (c *Client) do(ctx context.Context, method string, request any) error {
	_, err := call[struct{}](ctx, c, method, request)
	return err
}

func call[T any](ctx context.Context, c *Client, method string, request any) (answer T, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return answer, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://lab/"+method, bytes.NewReader(body))
	if err != nil {
		return answer, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer, fmt.Errorf("ask the lab (is it up? `lab up`): %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer, fmt.Errorf("ask the lab: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var e Error
		if json.Unmarshal(text, &e) != nil || e.Error == "" {
			e.Error = fmt.Sprintf("ask the lab: %s: %s", resp.Status, text)
		}
		return answer, errors.New(e.Error)
	}
	return answer, json.Unmarshal(text, &answer)
}
