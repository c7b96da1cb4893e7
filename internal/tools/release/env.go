package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// reachable are the settings of Go that say how it gets modules and where it keeps what it has.
// They do not change what it builds: go.sum says what a module is.
var reachable = []string{
	"GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE", "GOINSECURE", "GOAUTH", "GOVCS",
	"GOPATH", "GOMODCACHE", "GOCACHE", "GOCACHEPROG", "GOTMPDIR", "GOTOOLCHAIN",
}

// environment returns this process's environment for commands of Go. Of Go's own settings,
// whether in the environment or in the file of `go env -w`, only those in reachable are left: the
// others, such as GOFLAGS and GOEXPERIMENT, would change the bytes. (An empty variable would not
// do: Go then takes what the file says.)
func environment(ctx context.Context, repo string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"env", "-json"}, reachable...)...)
	cmd.Dir, cmd.Stderr = repo, os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	settings := map[string]string{}
	if err := json.Unmarshal(text, &settings); err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GO") && !strings.HasPrefix(v, "CGO_") {
			env = append(env, v)
		}
	}
	env = append(env, "GOENV=off", "GOWORK=off")
	for _, name := range reachable {
		if v := settings[name]; v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env, nil
}
