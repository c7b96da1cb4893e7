package archtest

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// notInDemo are the modules that `make demo` does not build: a newcomer would wait
// for them, and the lab has no use for them.
var notInDemo = []string{"k8s.io/client-go", "helm.sh/helm", "github.com/containerd/nri", "github.com/tetratelabs/wazero"}

// TestDemoBuildsNoCluster asks make how it builds the demo, and go what that needs.
func TestDemoBuildsNoCluster(t *testing.T) {
	build := exec.Command("make", "-n", "build-demo")
	build.Dir, build.Stderr = root, os.Stderr
	lines, err := build.Output()
	if err != nil {
		t.Fatalf("make -n build-demo: %v", err)
	}
	args := []string{"list", "-deps"}
	words := strings.Fields(string(lines))
	for i, word := range words {
		switch {
		case word == "-tags":
			args = append(args, word, words[i+1])
		case strings.HasPrefix(word, "./"):
			args = append(args, word)
		}
	}
	if !slices.Contains(args, "./cmd/controller") {
		t.Fatalf("make -n build-demo prints %q, want a go build with ./cmd/controller", lines)
	}
	list := exec.Command("go", args...)
	list.Dir, list.Stderr = root, os.Stderr
	deps, err := list.Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	report(t, demoViolations(strings.Fields(string(deps))))
}

func demoViolations(deps []string) (out []string) {
	for _, module := range notInDemo {
		packages := 0
		for _, dep := range deps {
			if within(dep, module) {
				packages++
			}
		}
		if packages > 0 {
			out = append(out, fmt.Sprintf("make demo builds %d packages of %s, want none: leave them out by the build tag nocluster", packages, module))
		}
	}
	return out
}

// notInAgent are packages for which the linker keeps all exported methods of all types, since
// templates call methods by their names: an agent with one of them is a sixth larger on disk, and
// in memory.
var notInAgent = []string{"html/template", "golang.org/x/net/trace"}

// TestAgentIsSmall asks make for its flags, and go what the agent is made of with them.
func TestAgentIsSmall(t *testing.T) {
	show := exec.Command("make", "-s", "--eval=show-goflags: ; @echo $(GOFLAGS)", "show-goflags")
	show.Dir, show.Stderr = root, os.Stderr
	show.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GOFLAGS=") })
	flags, err := show.Output()
	if err != nil {
		t.Fatalf("ask make for GOFLAGS: %v", err)
	}
	list := exec.Command("go", "list", "-deps", "./cmd/agent")
	list.Dir, list.Stderr = root, os.Stderr
	list.Env = append(os.Environ(), "GOFLAGS="+strings.TrimSpace(string(flags)))
	deps, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, name := range notInAgent {
		if slices.Contains(strings.Fields(string(deps)), name) {
			t.Errorf("the agent is built with %s", name)
		}
	}
}
