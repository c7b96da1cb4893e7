package controller

import (
	"context"
	"math"
	"time"
)

const (
	shareEvery = time.Second      // how often agents are asked to move on
	countEvery = 10 * time.Second // how often replicas and agents are counted
	// shareOf is which part of the surplus moves on at once. Each goes to a random replica, and
	// several replicas may have a surplus.
	shareOf = 10
)

// share asks agents of c to connect again while it has more than its share of them, until
// ctx ends: after a replica has come or has come back, all agents are with the others.
func share(ctx context.Context, c *Controller) error {
	tick := time.NewTicker(shareEvery)
	defer tick.Stop()
	replicas, agents, moving := 0, 0, false
	var counted time.Time
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if time.Since(counted) >= countEvery {
			replicas, agents = c.platform.Share()
			counted = time.Now()
		}
		n := surplus(c.server.Stats().Agents, agents, replicas, moving)
		if moving = n > 0; moving {
			moved := c.server.MoveOn((n + shareOf - 1) / shareOf)
			c.opt.Log.Debug("agents are asked to connect to another replica", "agents", moved, "surplus", n, "replicas", replicas)
		}
	}
}

// surplus returns how many of the agents of this replica should be with others: 0 unless it has
// clearly more than its share, or is moving agents until it has about its share. Agents choose
// their replica at random, so that a difference of some standard deviations says nothing.
func surplus(mine, agents, replicas int, moving bool) int {
	if replicas < 2 || agents < replicas {
		return 0
	}
	fair := (agents + replicas - 1) / replicas
	tolerance := math.Sqrt(float64(fair))
	if !moving {
		tolerance = max(float64(fair)/10, 3*tolerance)
	}
	if mine <= fair+int(tolerance) {
		return 0
	}
	return mine - fair
}
