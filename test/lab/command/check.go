package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/test/lab/api"
)

// checkTime bounds `agent check` on one node. It is below the time that the handler of
// /check allows for all of them, which run at the same time.
const checkTime = 20 * time.Second

// checkAPI answers the path /check of the lab's dashboard with the result of `agent check` of
// each node. In a cluster the command underlane computes that answer.
func (a *app) checkAPI(nodes []api.Node) http.Handler {
	return check.Handler(tapv1alpha1.GroupVersion, func() []check.Category {
		perNode := make([][]check.Category, len(nodes))
		var wg sync.WaitGroup
		for i, n := range nodes {
			wg.Go(func() {
				out, err := a.agentCheck(n.Name)
				perNode[i] = nodeCategories(n.Name, out, err)
			})
		}
		wg.Wait()
		var all []check.Category
		for _, c := range perNode {
			all = append(all, c...)
		}
		return all
	})
}

// agentCheck runs `agent check` where the agent of a node runs, and returns its JSON. The
// lab starts itself for it, because entering the node's namespaces concerns a whole process.
func (a *app) agentCheck(node string) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the program of the lab: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "--state", a.name, "agent", node, "--", "check", "-o", "json")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("agent check has not ended after %v", checkTime)
	case errors.As(err, &exit) && len(out) > 0:
		return out, nil // its status is 1 if a check has failed
	case err != nil:
		return nil, fmt.Errorf("run agent check: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// nodeCategories converts the output of `agent check -o json` on a node to categories whose
// probes have that result. err is why there is no output.
func nodeCategories(node string, output []byte, err error) []check.Category {
	var report check.Report
	if err == nil {
		if err = json.Unmarshal(output, &report); err != nil {
			err = fmt.Errorf("read the output of agent check: %w", err)
		}
	}
	if err != nil {
		return []check.Category{{Name: node, Probes: []check.Probe{{
			Name: "agent check runs", Hint: fmt.Sprintf("bin/lab agent %s -- check", node),
			Run: func(context.Context) error { return err },
		}}}}
	}
	var out []check.Category
	for _, c := range report.Categories {
		category := check.Category{Name: node + ": " + c.Name}
		for _, r := range c.Checks {
			category.Probes = append(category.Probes, check.Probe{
				Name: r.Description, Hint: r.Hint,
				Run: func(context.Context) error { return outcome(r) },
			})
		}
		out = append(out, category)
	}
	return out
}

// outcome is the error of a probe that has the result r.
func outcome(r check.Result) error {
	switch r.Result {
	case check.Success:
		return nil
	case check.Warning:
		return check.Warn(errors.New(r.Error))
	}
	return errors.New(r.Error)
}
